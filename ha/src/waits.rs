//! Whom commits wait for, and who may lead because of it.

use std::collections::BTreeSet;

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
        Self { names: waits.of.clone(), quorum: waits.of.len() - waits.need }
    }
}
