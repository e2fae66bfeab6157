//! What the whole-cluster tests share, beyond the test kit: nodes on loopback around one real
//! Consul, a tree's fingerprint, disks that are small or fail, and a kill at a chosen moment.

mod kill;
mod local;
mod loop_disk;
mod program;
mod tmpfs;
mod tree;

use std::time::Duration;

pub use kill::{kill_agent_at, line_after};
pub use local::Local;
pub use loop_disk::LoopDisk;
pub use program::{Ended, named, owner_of, run_hart, run_program};
pub use tmpfs::Tmpfs;
pub use tree::fingerprint;

/// How long anything may take on a loaded machine. No test is about time.
pub const DEADLINE: Duration = Duration::from_secs(120);
