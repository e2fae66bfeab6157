//! The end of an orderly stop that is held up by the archive. After the shutdown checkpoint PostgreSQL archives
//! all that waits before its postmaster ends, however much that is, and takes no connections meanwhile. The
//! archiver ends after the file at hand when it is told to (SIGTERM), and the stop is an orderly one all the same:
//! what waits is archived later. Tried with PostgreSQL 14.23, 15.19, 17.11 and 18.6.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::files::blocking;
use crate::postgres::Postgres;
use crate::postmaster;
use crate::recovery_command::children;

const WHAT: &str = "the look at what an orderly stop waits for";

/// Who may still be there when nobody is sent WAL any more.
const WITHOUT_WAL: [&str; 4] = ["archiver", "checkpointer", "io worker", "logger"];

impl Postgres {
    /// Where an orderly stop waits for nothing but the archiver, tells that to end after the file at hand. The
    /// shutdown checkpoint is written then, and everybody who streams has confirmed it. Whether it was told.
    ///
    /// # Errors
    /// It cannot be looked at, or not within the time.
    pub async fn end_last_pass(&self, within: Duration) -> Result<bool> {
        let settings = self.settings();
        let look = move || {
            let postmaster = postmaster::find(&settings)?.map(|found| found.pid);
            Ok(postmaster.and_then(lone_archiver))
        };
        let Some(archiver) = blocking(WHAT, within, look).await? else { return Ok(false) };
        if !self.control_data(within).await?.clean() {
            return Ok(false);
        }
        match kill(Pid::from_raw(archiver), Signal::SIGTERM) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => {
                Err(Error::io("signal", format!("/proc/{archiver}").as_ref())(errno.into()))
            }
        }
    }
}

/// The archiver of this postmaster, if no other process is left that a stop waits for.
fn lone_archiver(postmaster: i32) -> Option<i32> {
    let titled: Vec<_> = children(postmaster).into_iter().map(|pid| (pid, title(pid))).collect();
    archiver_among(&titled)
}

fn archiver_among(processes: &[(i32, String)]) -> Option<i32> {
    let others = processes.iter().any(|(_, title)| !WITHOUT_WAL.iter().any(|it| is(title, it)));
    let archiver = processes.iter().find(|(_, title)| is(title, "archiver"));
    archiver.filter(|_| !others).map(|(pid, _)| *pid)
}

/// As ps(1) shows it: `postgres: CLUSTER: KIND what it does`.
fn title(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.trim_end_matches(['\0', ' ']).to_owned()
}

fn is(title: &str, kind: &str) -> bool {
    let last = title.rsplit(": ").next().unwrap_or_default();
    title.starts_with("postgres: ")
        && last.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(titles: &[&str]) -> Option<i32> {
        let number = |(i, title): (usize, &&str)| (i32::try_from(i).unwrap(), (*title).to_owned());
        archiver_among(&titles.iter().enumerate().map(number).collect::<Vec<_>>())
    }

    #[test]
    fn the_archiver_is_told_only_when_nobody_is_sent_wal() {
        let archiver = "postgres: demo: archiver archiving 000000010000000000000002";
        let io = "postgres: demo: io worker 0";
        assert_eq!(found(&[archiver]), Some(0));
        assert_eq!(found(&[io, "postgres: demo: checkpointer", archiver]), Some(2));
        assert_eq!(found(&["postgres: archiver last was 000000010000000000000002"]), Some(0));
        let sender = "postgres: demo: walsender replicator 192.0.2.9(41000) streaming 0/3000000";
        assert_eq!(found(&[archiver, sender]), None, "a standby has not confirmed everything");
        assert_eq!(found(&[archiver, "postgres: demo: app app [local] idle"]), None);
        assert_eq!(found(&[archiver, ""]), None, "what cannot be read may be anybody");
        assert_eq!(found(&["postgres: archiver: checkpointer"]), None, "the cluster's name");
        assert_eq!(found(&[]), None);
    }
}
