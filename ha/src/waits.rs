//! Whom commits wait for, and who may lead because of it.

use std::collections::BTreeSet;

/// `synchronous_standby_names` with a name that no standby has: commits wait for ever. It is the one that
/// Patroni uses, which people's checks know.
pub const NOBODY: &str = "__patroni_strict_sync_replica_placeholder__";

/// What earlier versions wrote for it, which may still be in force while an agent is replaced.
const NOBODY_BEFORE: &str = "\"__hart_nobody__\"";

/// Do these names hold every commit back?
#[must_use]
pub fn are_nobodys(names: &str) -> bool {
    names == NOBODY || names == NOBODY_BEFORE
}

/// Commits wait for `need` of these standbys (`synchronous_standby_names`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// How many have to confirm; 0: commits wait for nobody.
    pub need: usize,
    /// The standbys.
    pub of: BTreeSet<String>,
}

impl Waits {
    /// For nobody.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// For every one of them.
    #[must_use]
    pub fn all(of: BTreeSet<String>) -> Self {
        Self { need: of.len(), of }
    }

    /// For any `need` of them, or for all where there are fewer.
    #[must_use]
    pub fn any(need: usize, of: BTreeSet<String>) -> Self {
        Self { need: need.min(of.len()), of }
    }

    /// For every one of them?
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.need == self.of.len()
    }

    /// For nobody?
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.need == 0
    }

    /// As `synchronous_standby_names`; empty for nobody.
    #[must_use]
    pub fn names(&self) -> String {
        if self.is_nobody() {
            return String::new();
        }
        let quoted = self.of.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
        let any = if self.is_all() { "" } else { "ANY " };
        format!("{any}{} ({})", self.need, quoted.collect::<Vec<_>>().join(","))
    }

    /// What [`Waits::names`] has written. `None`: somebody else wrote it.
    #[must_use]
    pub fn read(names: &str) -> Option<Self> {
        if names.is_empty() {
            return Some(Self::nobody());
        }
        let (need, list) = names.strip_prefix("ANY ").unwrap_or(names).split_once(" (\"")?;
        let list = list.strip_suffix("\")")?;
        let of = list.split("\",\"").map(|name| name.replace("\"\"", "\"")).collect();
        let read = Self { need: need.parse().ok()?, of };
        (read.names() == names).then_some(read)
    }
}

impl From<BTreeSet<String>> for Waits {
    fn from(of: BTreeSet<String>) -> Self {
        Self::all(of)
    }
}

/// The standbys in the key `sync`. One of them may lead when it has what `quorum` of the others
/// have: together they have every acknowledged commit. With a quorum of 0 each of them has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Voters {
    /// The standbys.
    pub names: BTreeSet<String>,
    /// How many of the others a candidate has to hear.
    pub quorum: usize,
}

impl Voters {
    /// Nobody but the leader itself may lead.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Each of them has everything.
    #[must_use]
    pub fn all(names: BTreeSet<String>) -> Self {
        Self { names, quorum: 0 }
    }

    /// Those of whom enough must be heard while commits wait as `waits` says.
    #[must_use]
    pub fn of(waits: &Waits) -> Self {
        Self { names: waits.of.clone(), quorum: waits.of.len().saturating_sub(waits.need) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn commits_wait_for_all_of_the_names_or_for_enough_of_them() {
        let all = |list: &[&str]| Waits::all(set(list)).names();
        assert_eq!(all(&[]), "");
        assert_eq!(all(&["n2"]), "1 (\"n2\")");
        assert_eq!(all(&["b", "a-1"]), "2 (\"a-1\",\"b\")");
        assert_eq!(Waits::any(1, set(&["b", "a"])).names(), "ANY 1 (\"a\",\"b\")");
    }

    #[test]
    fn only_what_was_written_here_is_read() {
        for waits in [
            Waits::nobody(),
            Waits::all(set(&["n2"])),
            Waits::all(set(&["a\"b", "c,d", "e (f)"])),
            Waits::any(1, set(&["a", "b", "c"])),
        ] {
            assert_eq!(Waits::read(&waits.names()), Some(waits.clone()), "{waits:?}");
        }
        for other in
            ["*", "n2", "1 (n2)", "FIRST 1 (\"n2\")", "ANY 1 (\"n2\")", "1 (\"a\",\"b\")", "("]
        {
            assert_eq!(Waits::read(other), None, "{other}");
        }
    }
}
