//! The agent: observe → step → execute. It decides nothing; `hart-ha` does.
//!
//! | file | does |
//! |---|---|
//! | `start`, `assemble`, `parts`, `beside` | from the command line to a running loop |
//! | `reloaded` | what a changed configuration takes to come into force |
//! | `agent`, `execute`, `asks` | the loop: gather one observation, step, carry the commands out |
//! | `effects`, `ended`, `pace` | what short actions, jobs and servers that ended have come to; how often is looked |
//! | `lease_task` | renewals, on a thread of their own; arms and disarms the guard |
//! | `store_task`, `writes`, `keys`, `carried` | session, watch and writes in Consul |
//! | `monitor`, `server`, `jobs`, `local` | PostgreSQL: looked at, as a process, long actions |
//! | `peers`, `status`, `word`, `http`, `logins` | the other members over REST |
//! | `promises` | questions and answers of failsafe |
//! | `namesake`, `own_address` | another node of the same name, or at this one's address |
//! | `ghosts` | what is left of lost hosts in the catalogue |
//! | `services` | registration with Consul |
//! | `strays` | PostgreSQL started past the guard; the question before the lease is given up |
//! | `strangers` | who streams from here under a member's name |
//! | `given` | names of standbys that somebody gives while synchronous mode is off |
//! | `planned` | a switchover or a restart at a time that people have set |
//! | `vetted`, `file_faults`, `proven` | parameters that PostgreSQL refuses, lines of its files that it does not take, and what it does not start with |
//! | `unfit` | a node without the watchdog it needs |
//! | `pulse` | whether the loop turns, for the lease thread |
//! | `logging` | the log, which holds nobody up |
//! | `known_settings` | the shared settings as they were seen last |
//! | `replace`, `installed` | another binary in the place of this one; what is installed and does not run yet |
//! | `home` | what is kept beside the data directory |
//! | `view` | what REST and DNS answer from |
//! | `counters` | what is counted and measured for `GET /metrics` |

mod agent;
mod asks;
mod assemble;
mod beside;
mod carried;
pub mod counters;
mod doubt;
mod effects;
mod ended;
mod execute;
mod file_faults;
mod first_start;
mod ghosts;
mod given;
mod health;
mod home;
mod hooks;
pub mod http;
pub mod installed;
mod jobs;
pub mod keys;
mod known_settings;
mod lease_task;
mod local;
mod logging;
pub mod logins;
mod monitor;
mod namesake;
mod own_address;
mod pace;
mod parts;
pub mod peers;
mod place;
pub mod planned;
pub mod promises;
mod proven;
mod pulse;
mod reloaded;
mod repair;
pub mod replace;
mod server;
mod services;
mod settings;
pub mod slot;
mod slot_work;
mod start;
mod state_dir;
pub mod status;
mod store_task;
mod strangers;
mod strays;
pub mod tls;
mod unarchived;
mod unfit;
mod vetted;
pub mod view;
pub mod word;
mod writes;

#[cfg(test)]
pub use lease_task::Order as LeaseOrder;
pub use lease_task::Standing;
pub use logging::{flush as flush_log, init as log_to_stderr};
pub use services::service_name;
pub use settings::consul as consul_client;
pub use settings::postgres as postgres_settings;
pub use start::run;
pub use state_dir::log_file;
pub use store_task::Seen;
