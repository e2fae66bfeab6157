//! What a kill has left, in words: a process that hangs in the kernel cannot be killed before that is
//! over, and people want to know what it hangs on.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::orphan::{Process, processes};

/// Processes that are left, by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// State `D`: they wait in the kernel, mostly for a disk, and take no signal.
    pub asleep: usize,
    /// They have ended, and their parent has not taken note of it.
    pub ended: usize,
    /// Any other.
    pub others: usize,
}

impl Left {
    /// None at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn count(&mut self, process: &Process) {
        let counter = match process.state {
            'D' => &mut self.asleep,
            _ if process.ended() => &mut self.ended,
            _ => &mut self.others,
        };
        *counter += 1;
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.asleep, "in uninterruptible sleep (disk)"),
            (self.others, "not ended yet"),
            (self.ended, "ended but not reaped by the parent"),
        ];
        let mut first = true;
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let (comma, plural) =
                (if first { "" } else { ", " }, if count == 1 { "" } else { "es" });
            write!(f, "{comma}{count} process{plural} {what}")?;
            first = false;
        }
        Ok(())
    }
}

/// The processes of PostgreSQL that are left: those in its cgroup, and those named `postgres` that
/// work in `data_dir`. A look at a disk that hangs may hang, too.
#[must_use]
pub fn left(cgroup: Option<&Path>, data_dir: &Path) -> Left {
    let dir = fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let procs = cgroup.and_then(|path| fs::read_to_string(path.join("cgroup.procs")).ok());
    let members: Vec<i32> =
        procs.iter().flat_map(|text| text.lines()).filter_map(|line| line.parse().ok()).collect();
    let mut left = Left::default();
    for process in processes().unwrap_or_default() {
        let here = process.name == "postgres" && process.works_in(&dir);
        if here || members.contains(&process.pid) {
            left.count(&process);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_said_in_words() {
        let left = Left { asleep: 2, ended: 0, others: 1 };
        let text = "2 processes in uninterruptible sleep (disk), 1 process not ended yet";
        assert_eq!(left.to_string(), text);
        assert!(Left::default().is_empty() && Left::default().to_string().is_empty());
    }

    #[test]
    fn nobody_is_left_where_nobody_was() {
        assert!(
            left(Some(Path::new("/sys/fs/cgroup/no-such-cgroup")), Path::new("/nowhere"))
                .is_empty()
        );
    }
}
