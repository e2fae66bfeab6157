//! One local PostgreSQL (13 to 19): its files, its helper programs and its SQL.
//!
//! The crate prepares files, produces the argument list of the postmaster, talks SQL, and runs
//! `initdb`, `pg_controldata`, `pg_basebackup`, `pg_rewind` and `postgres --single`. It does not run
//! the postmaster itself and knows nothing of agreement or discovery. Start at [`Postgres`].

#![forbid(unsafe_code)]

mod at_work;
mod auto_conf;
mod basebackup;
mod beginning;
mod binaries;
mod command;
mod conf;
mod control;
mod datadir;
mod environment;
mod error;
mod file_faults;
mod files;
mod health;
mod held_up;
mod history;
mod hook;
mod initdb;
mod kept;
mod last_pass;
mod launch;
mod leftovers;
mod link;
mod link_error;
mod local_end;
mod making;
mod names;
mod parameters;
mod pgpass;
mod postgres;
mod postmaster;
mod probe;
mod promote;
pub mod quote;
mod reach;
mod recovery_command;
mod rest;
mod restore;
mod rewind;
mod roles;
mod same_wal;
mod seclusion;
mod secret;
mod sender_limit;
mod senders;
mod server_log;
mod settings;
mod slot_faults;
mod slots;
mod sync;
mod sync_file;
mod unarchived;
mod upstream;
mod vet;
mod wal_behind;
mod wal_files;
mod waldir;
mod wire;
pub mod words;

pub use at_work::AtWork;
pub use basebackup::{BaseBackup, Progress};
pub use beginning::{Beginning, CustomBootstrap};
pub use binaries::{SUPPORTED, Version, acknowledges_early};
pub use conf::{ConfigChange, Follow};
pub use control::{ClusterState, ControlData};
pub use datadir::{DataDir, Work};
pub use error::{Error, Result};
pub use file_faults::{Effect, FileFault};
pub use health::WalEnds;
pub use held_up::{HeldUp, Session};
pub use history::{Divergence, History, LocalEnd, Switch, needs_rewind};
pub use hook::{End, Hook, Ran};
pub use kept::{Found, Kept};
pub use launch::Launch;
pub use link_error::LinkError;
pub use names::slot_name;
pub use postgres::Postgres;
pub use postmaster::Postmaster;
pub use probe::{Probe, Receiver, StandbyRow};
pub use promote::PromotedBy;
pub use reach::Place;
pub use recovery_command::{RecoveryCommand, Startup};
pub use restore::{ReplicaCommand, ReplicaMethod};
pub use rewind::{Rewound, rewind_is_hopeless};
pub use secret::Secret;
pub use server_log::MissingWal;
pub use settings::{
    Credentials, Role, RunAs, Settings, ToolOption, Upstream, default_socket_dir, first_socket_dir,
};
pub use slots::{SlotChange, SlotWork, WantedSlots};
pub use unarchived::{Archived, Belongs, Course, Waiting};
pub use upstream::UpstreamState;
pub use wal_behind::WalBehind;
