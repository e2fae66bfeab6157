//! The failure table of the design, row by row, and what the operators asked for beside it. The page
//! `docs/failures.md` names the test for each row.

mod altered;
mod archive;
mod by_hand;
mod clocks;
mod consul;
mod disks;
mod disturbed;
mod failsafe;
mod forensics;
mod frozen;
mod kept;
mod primary;
mod readers;
mod replica;
mod resolver;
mod returning;
mod revoked;
mod sick;
mod slow;
mod stranger;
mod synchronous;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// PostgreSQL's end, as the agent tells it.
const ENDED: &str = "PostgreSQL has ended";
/// PostgreSQL was killed because the lease ended.
const FENCED: &str = "PostgreSQL was fenced";
/// The guard was frozen together with the agent, which wakes up first and does not wait for it.
const GUARD_LATE: &str = "the guard does not fence in time";
/// The store cannot be reached.
const AWAY: &str = "Consul cannot be read";

/// Longer than a lease lasts: what would happen at its end has happened.
async fn longer_than_a_lease() {
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
}

/// Sends a signal to a process.
fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    Ok(kill_process(pid, signal)?)
}
