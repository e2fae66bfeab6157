//! The guard: a small single-threaded process between the agent and the postmaster.
//!
//! It starts PostgreSQL, reaps it, holds the lease deadline and fences at that deadline, so that
//! the agent may crash, hang or be upgraded without PostgreSQL noticing, and so that a primary
//! whose lease is over is dead before the lease is. One guard per start of the postmaster; it
//! lives exactly as long as the postmaster's processes.
//!
//! - [`run`] is the body of the process `hart guard`.
//! - [`spawn`] starts one, [`Client`] talks to it, [`read_exit`] tells afterwards how it ended.
//! - [`cgroup`] prepares the cgroup that a fence kills as a whole.
//! - [`kill_tree`] deals with a PostgreSQL whose guard is dead.
//! - [`become_init`] makes the agent of a container the child of a process 1 that reaps.
//! - [`privilege`] takes `hart agent --user postgres` from root to that user.
//!
//! What the guard holds to: it never waits for a client, a disk or the network between start and
//! end; it allocates nothing in that time; after every wake-up it looks at the deadline before
//! it looks at anything else; it lets PostgreSQL become writable only under an armed lease; and it
//! says *gone* only when the kernel says that nothing is left.
//!
//! Behind it stands the kernel's watchdog, where one is configured: what makes it strike, and why
//! in time, is written in `guard/dog`.

#![deny(unsafe_code)]

pub mod cgroup;
mod client;
mod guard;
mod init;
mod left;
mod orphan;
pub mod privilege;
mod record;
mod spawn;
mod types;
mod watchdog;
mod watched;
mod wire;

pub use client::{Client, ClientError, News};
#[doc(hidden)]
pub use guard::QUIET;
pub use guard::run;
pub use init::become_init;
pub use left::{Left, left};
pub use orphan::{KillError, kill_tree};
pub use record::read_exit;
pub use spawn::{SpawnError, Spec, Started, guard_lives, spawn};
pub use types::{Armed, Exit, ExitRecord, Layers, Phase, Refusal, Signal, Status};
pub use watchdog::{Watchdog, WatchdogSpec, stand_down};
