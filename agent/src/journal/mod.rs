//! Each node's own journal: what it saw and did, and why. It is kept in memory for REST and in two
//! files beside the data directory, bounded in bytes; `hart events` merges all nodes' journals.
//!
//! | file | what |
//! |---|---|
//! | `entry` | one line |
//! | `away` | who is not there any more, and since when |
//! | `sight`, `compare` | from two looks at the world to events |
//! | `recorder` | the loop's end: what each step adds |
//! | `ring` | the newest lines, in memory |
//! | `files` | the thread that writes them to disk |
//! | `lost` | what an old primary had that the new one has not |
//!
//! Nothing here ever waits for the disk but the thread in `files`: a disk that hangs or is full costs
//! lines of the files, and nothing else. There are no secrets in it.

mod away;
mod compare;
mod entry;
mod files;
pub mod lost;
mod recorder;
mod ring;
mod sight;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hart_ha::time::Time;
use jiff::Timestamp;
use serde_json::Value;

pub use away::Away;
pub use entry::{Entry, Event, Kind};
pub use recorder::{COMPARED, CONTAINED, RENEWED_MS, Recorder};

use away::Absent;
use files::Files;
use ring::Ring;

/// A text longer than this is cut.
const TEXT_MAX: usize = 600;

/// The journal of this node; clones share it.
#[derive(Clone)]
pub struct Journal {
    node: Arc<str>,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    ring: Ring,
    files: Option<Files>,
    lost: Option<Value>,
    absent: Absent,
    /// Lines since the agent began.
    counts: BTreeMap<Kind, u64>,
}

impl Journal {
    /// Goes on with the journal in `dir`. Files that cannot be read count as empty.
    #[must_use]
    pub fn open(dir: &Path, node: &str) -> Self {
        let mut ring = Ring::default();
        for line in files::read(dir) {
            ring.load(line);
        }
        let lost = ring.last(Kind::LostWrites).and_then(|entry| entry.data);
        let mut absent = Absent::default();
        ring.after(0, usize::MAX).iter().for_each(|entry| absent.note(entry));
        let files = Files::start(dir).map_err(|error| {
            tracing::warn!("the journal is kept in memory only: no thread to write it: {error}");
        });
        let shared = Shared { ring, files: files.ok(), lost, absent, counts: BTreeMap::new() };
        Self { node: node.into(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// A journal in memory only.
    #[must_use]
    pub fn in_memory(node: &str) -> Self {
        let ring = Ring::default();
        let (lost, absent) = (None, Absent::default());
        let shared = Shared { ring, files: None, lost, absent, counts: BTreeMap::new() };
        Self { node: node.into(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a line. Never waits.
    pub fn add(&self, event: Event) {
        let mut shared = self.lock();
        let lost = (event.kind == Kind::LostWrites).then(|| event.data.clone()).flatten();
        shared.lost = lost.or(shared.lost.take());
        *shared.counts.entry(event.kind).or_default() += 1;
        let entry = self.entry(shared.ring.next(), event);
        shared.absent.note(&entry);
        let Ok(line) = serde_json::to_string(&entry) else { return };
        if let Some(files) = &shared.files {
            files.send(line.clone());
        }
        shared.ring.push(entry.seq, line);
    }

    fn entry(&self, seq: u64, event: Event) -> Entry {
        let mut text = event.text;
        if text.len() > TEXT_MAX {
            let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        let up = event.at.since_origin().as_millis();
        Entry {
            seq,
            at: wall_at(event.at),
            up_ms: u64::try_from(up).unwrap_or(u64::MAX),
            node: self.node.to_string(),
            kind: event.kind,
            term: event.term,
            index: event.index,
            about: event.about,
            text,
            data: event.data,
        }
    }

    /// The lines after number `since`, the newest `limit` of them, oldest first; and the number of
    /// the last line of all.
    #[must_use]
    pub fn after(&self, since: u64, limit: usize) -> (Vec<Entry>, u64) {
        let shared = self.lock();
        (shared.ring.after(since, limit), shared.ring.next().saturating_sub(1))
    }

    /// How many lines of each kind there were since the agent began, by the kind's word.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, u64)> {
        self.lock().counts.iter().map(|(kind, count)| (kind.word(), *count)).collect()
    }

    /// What the last return of this node as an old primary has cost: the `data` of its last
    /// [`Kind::LostWrites`].
    #[must_use]
    pub fn lost(&self) -> Option<Value> {
        self.lock().lost.clone()
    }

    /// The members that are away for no longer than a day, as far as this node has seen it.
    #[must_use]
    pub fn away(&self) -> BTreeMap<String, Away> {
        self.lock().absent.all(hart_clock::wall())
    }

    /// Has the files written to the end, as far as that goes within the time.
    pub fn close(&self, within: Duration) {
        let files = self.lock().files.take();
        if let Some(files) = files {
            files.close(within);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({})", self.node)
    }
}

/// The wall clock's time at `at`, for people.
fn wall_at(at: Time) -> Timestamp {
    let age = at.until(hart_clock::now());
    let wall = hart_clock::wall();
    wall.checked_sub(age).unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scratch() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("hart-journal-{:x}", fastrand::u64(..)));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    struct Gone(std::path::PathBuf);

    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_restart_goes_on_where_the_last_run_ended() {
        let dir = Gone(scratch());
        let first = Journal::open(&dir.0, "n1");
        first.add(Event::new(Kind::Phase, "following n2"));
        let data = json!({"bytes": 96});
        first.add(Event { data: Some(data.clone()), ..Event::new(Kind::LostWrites, "lost") });
        first.close(PATIENCE);
        let second = Journal::open(&dir.0, "n1");
        assert_eq!(second.lost(), Some(data));
        second.add(Event::new(Kind::Phase, "leading"));
        let (entries, last) = second.after(0, 10);
        let seen: Vec<_> = entries.iter().map(|e| (e.seq, e.text.as_str())).collect();
        assert_eq!(seen, [(1, "following n2"), (2, "lost"), (3, "leading")]);
        assert_eq!(last, 3);
        assert_eq!(second.after(2, 10).0.len(), 1);
        second.close(PATIENCE);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_only_the_files() {
        let journal = Journal::open(Path::new("/nonexistent/dir"), "n1");
        for at in 0..2000 {
            journal.add(Event::new(Kind::Phase, format!("phase {at}")));
        }
        let (entries, last) = journal.after(1990, 100);
        assert_eq!((entries.len(), last), (10, 2000));
        journal.close(PATIENCE);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let journal = Journal::in_memory("n1");
        journal.add(Event::new(Kind::Phase, "ä".repeat(5000)));
        let text = journal.after(0, 1).0.remove(0).text;
        assert!(text.len() <= TEXT_MAX + 3 && text.ends_with('…'), "{}", text.len());
    }
}
