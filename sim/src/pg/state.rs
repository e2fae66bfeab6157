//! One PostgreSQL: its data directory, which outlives everything, and its processes.

use hart_ha::time::Time;
use hart_ha::waits::Waits;

use crate::clock::Us;
use crate::pg::impostor::Impostor;
use crate::pg::wal::{Branch, Pos};

/// What is in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A broken-off initdb, base backup or rewind.
    HalfMade,
    /// A cluster.
    Cluster,
}

/// The data directory.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What is in it.
    pub content: Content,
    /// System identifier.
    pub system_id: u64,
    /// The end of its WAL.
    pub pos: Pos,
    /// Written as a primary, not in recovery.
    pub was_primary: bool,
    /// Stopped in good order.
    pub clean: bool,
    /// A base backup that never ran.
    pub fresh_backup: bool,
    /// The branch whose timeline the control file names. On a standby it lags behind until a
    /// restartpoint, or an orderly stop.
    pub control: Branch,
    /// A copy takes the place of a whole cluster.
    pub replacing: bool,
    /// Start of the latest checkpoint's record.
    pub checkpoint: u64,
    /// `synchronous_standby_names` in its file.
    pub sync_file: Waits,
    /// It has `standby.signal`: whoever starts it gets a standby.
    pub signal: bool,
    /// Somebody's own in `postgresql.auto.conf`, which wins over the file.
    pub altered: Option<Waits>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            content: Content::Empty,
            system_id: 0,
            pos: Pos { branch: 0, lsn: 0 },
            was_primary: false,
            clean: false,
            fresh_backup: false,
            control: 0,
            replacing: false,
            checkpoint: 0,
            sync_file: Waits::nobody(),
            signal: false,
            altered: None,
        }
    }
}

impl Disk {
    /// `synchronous_standby_names` as the server reads it.
    #[must_use]
    pub fn names(&self) -> &Waits {
        self.altered.as_ref().unwrap_or(&self.sync_file)
    }
}

/// What the processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No process.
    Down,
    /// Recovering after a start; answers no query.
    Starting,
    /// Answers queries.
    Up,
    /// Told to stop in good order: clients are gone, the last WAL goes out.
    Stopping,
    /// Being killed; until the last process is gone, what ran may still write.
    Dying,
}

/// The standby's end of a replication connection.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    /// The upstream.
    pub from: usize,
    /// The connection's number.
    pub link: u64,
}

/// The upstream's end of a replication connection.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The standby.
    pub to: usize,
    /// The connection's number.
    pub link: u64,
    /// What the standby has confirmed.
    pub acked: u64,
    /// A message is under way to it.
    pub busy: bool,
    /// Since when nothing gets through.
    pub stuck: Option<Us>,
}

/// A commit that waits for standbys.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The write.
    pub write: u64,
    /// The end of its commit record.
    pub at: Pos,
    /// Since when.
    pub since: Us,
}

/// The processes.
#[derive(Clone, Debug)]
pub struct Server {
    /// What they do.
    pub stage: Stage,
    /// Grows with every start; what was meant for an earlier one is void.
    pub life: u32,
    /// In recovery: does not write.
    pub recovery: bool,
    /// Clients are gone: nothing new gets in.
    pub closed: bool,
    /// Told to promote.
    pub promoting: bool,
    /// Since when it waits for a call of `restore_command`, by the node's clock.
    pub command: Option<Time>,
    /// How many calls are yet to come.
    pub calls: u32,
    /// Since when a promotion waits for sessions, by the node's clock.
    pub held_up: Option<Time>,
    /// `primary_conninfo`.
    pub upstream: Option<usize>,
    /// Connection to the upstream.
    pub receiver: Option<Receiver>,
    /// Connections of standbys.
    pub senders: Vec<Sender>,
    /// Commits wait for these.
    pub sync: Waits,
    /// Commits that wait.
    pub waiting: Vec<Waiting>,
    /// Since when it may write by a person's doing: promoted, or restarted past the guard before that
    /// could put the directory to rest.
    pub by_hand: Option<Us>,
    /// Since when others than hart's names are in force, and when the agent could know.
    pub altered: Option<(Us, Option<Us>)>,
    /// Who streams under a member's name.
    pub impostor: Option<Impostor>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            stage: Stage::Down,
            life: 0,
            recovery: true,
            closed: true,
            promoting: false,
            command: None,
            calls: 0,
            held_up: None,
            upstream: None,
            receiver: None,
            senders: Vec::new(),
            sync: Waits::nobody(),
            waiting: Vec::new(),
            by_hand: None,
            altered: None,
            impostor: None,
        }
    }
}

impl Server {
    /// Could a client's write get in?
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self.stage, Stage::Up | Stage::Dying) && !self.recovery && !self.closed
    }

    /// Does it answer queries?
    #[must_use]
    pub fn answers(&self) -> bool {
        self.stage == Stage::Up
    }

    /// What commits up to `lsn` may be confirmed, given who must have confirmed them.
    #[must_use]
    pub fn confirmed(&self, names: &[String]) -> u64 {
        let borne = self.impostor.and_then(|it| names.get(it.bears));
        let acked = |name: &String| {
            if borne == Some(name) {
                return u64::MAX;
            }
            let row = self.senders.iter().find(|s| names.get(s.to) == Some(name));
            row.map_or(0, |row| row.acked)
        };
        let mut confirmed: Vec<u64> = self.sync.of.iter().map(acked).collect();
        confirmed.sort_unstable_by_key(|lsn| std::cmp::Reverse(*lsn));
        let last = self.sync.need.checked_sub(1).map(|at| confirmed.get(at).copied());
        last.map_or(u64::MAX, Option::unwrap_or_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_wait_for_as_many_of_the_names_as_are_needed() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let sender = |to, acked| Sender { to, link: 0, acked, busy: false, stuck: None };
        let mut server = Server { senders: vec![sender(1, 7), sender(2, 9)], ..Server::default() };
        assert_eq!(server.confirmed(&names), u64::MAX);
        server.sync = Waits::all(["b".to_owned(), "c".to_owned()].into());
        assert_eq!(server.confirmed(&names), 7);
        server.sync.need = 1;
        assert_eq!(server.confirmed(&names), 9);
        server.sync = Waits::all(["a".to_owned()].into());
        assert_eq!(server.confirmed(&names), 0, "not connected");
    }
}
