//! The guard as a process, over stand-in postmasters (shell scripts) and a real PostgreSQL.

mod cgroup;
mod fence;
mod init;
mod life;
mod orphan;
mod postgres;
mod promote;
mod rig;
mod watchdog;
