//! All WAL that any node ever wrote, as a tree of branches. A branch is what one promotion began;
//! its number is known to the simulator only. Nodes see timeline IDs, which two branches can share.

/// A branch's number.
pub type Branch = usize;

/// A position: everything on the way from the root to `lsn` on `branch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// The branch.
    pub branch: Branch,
    /// Bytes.
    pub lsn: u64,
}

#[derive(Clone, Debug)]
struct Node {
    timeline: u32,
    parent: Option<Pos>,
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub struct Wal {
    branches: Vec<Node>,
}

/// Where a fresh cluster's WAL begins.
pub const FIRST_LSN: u64 = 0x0100_0000;

impl Wal {
    /// A new cluster.
    pub fn initdb(&mut self) -> Pos {
        self.branches.push(Node { timeline: 1, parent: None });
        Pos { branch: self.branches.len() - 1, lsn: FIRST_LSN }
    }

    /// A promotion at `at`.
    pub fn fork(&mut self, at: Pos) -> Pos {
        let timeline = self.timeline(at.branch) + 1;
        self.branches.push(Node { timeline, parent: Some(at) });
        Pos { branch: self.branches.len() - 1, lsn: at.lsn }
    }

    /// The timeline ID of a branch.
    #[must_use]
    pub fn timeline(&self, branch: Branch) -> u32 {
        self.branches.get(branch).map_or(0, |node| node.timeline)
    }

    /// Does a node at `node` have everything up to `what`?
    #[must_use]
    pub fn has(&self, node: Pos, what: Pos) -> bool {
        let mut at = node;
        loop {
            if at.branch == what.branch {
                return what.lsn <= at.lsn;
            }
            match self.branches.get(at.branch).and_then(|node| node.parent) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// Ends of the ancestors' timelines, oldest first: a `.history` file.
    #[must_use]
    pub fn history(&self, branch: Branch) -> Vec<(u32, u64)> {
        let mut ends = Vec::new();
        let mut at = branch;
        while let Some(parent) = self.branches.get(at).and_then(|node| node.parent) {
            ends.push((self.timeline(parent.branch), parent.lsn));
            at = parent.branch;
        }
        ends.reverse();
        ends
    }

    /// The newest position that both have.
    #[must_use]
    pub fn common(&self, a: Pos, b: Pos) -> Option<Pos> {
        let mut at = Some(a);
        while let Some(pos) = at {
            let mut other = Some(b);
            while let Some(theirs) = other {
                if theirs.branch == pos.branch {
                    return Some(Pos { branch: pos.branch, lsn: pos.lsn.min(theirs.lsn) });
                }
                other = self.branches.get(theirs.branch).and_then(|node| node.parent);
            }
            at = self.branches.get(pos.branch).and_then(|node| node.parent);
        }
        None
    }

    /// What the agent finds out by comparing timeline IDs and the ends in history files, as
    /// `hart_postgres::needs_rewind` does.
    #[must_use]
    pub fn needs_rewind(&self, mine: Pos, theirs: Pos) -> bool {
        let timeline = self.timeline(mine.branch);
        let ends = self.history(theirs.branch);
        if timeline == self.timeline(theirs.branch) {
            return self.history(mine.branch).last() != ends.last();
        }
        let end = ends.iter().find(|(ended, _)| *ended == timeline);
        end.is_none_or(|(_, end)| mine.lsn > *end)
    }

    /// The same of a position under the timeline of another branch than its own.
    #[must_use]
    pub fn outside(&self, said: Branch, mine: Pos, theirs: Pos) -> bool {
        self.needs_rewind(Pos { branch: said, ..mine }, theirs)
    }

    /// On the way from the root to `to`: the furthest position on the branch whose timeline is
    /// that of `from`, as PostgreSQL finds it by numbers alone.
    #[must_use]
    pub fn end_of_timeline(&self, to: Pos, timeline: u32) -> Option<Pos> {
        let mut at = Some(to);
        while let Some(pos) = at {
            if self.timeline(pos.branch) == timeline {
                return Some(pos);
            }
            at = self.branches.get(pos.branch).and_then(|node| node.parent);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_has_what_came_before_it_and_nothing_of_the_other_side() {
        let mut wal = Wal::default();
        let root = wal.initdb();
        let at = |branch, lsn| Pos { branch, lsn: FIRST_LSN + lsn };
        let left = wal.fork(at(root.branch, 50));
        let right = wal.fork(at(root.branch, 70));
        assert_eq!((wal.timeline(left.branch), wal.timeline(right.branch)), (2, 2));
        let end = at(left.branch, 90);
        assert!(wal.has(end, at(root.branch, 50)));
        assert!(!wal.has(end, at(root.branch, 51)));
        assert!(!wal.has(end, at(right.branch, 71)));
        assert_eq!(wal.common(end, at(right.branch, 99)), Some(at(root.branch, 50)));
        assert_eq!(wal.history(left.branch), [(1, FIRST_LSN + 50)]);
    }

    #[test]
    fn two_clusters_have_nothing_in_common() {
        let mut wal = Wal::default();
        let (one, two) = (wal.initdb(), wal.initdb());
        assert_eq!(wal.common(one, two), None);
        assert!(!wal.has(one, two));
    }
}
