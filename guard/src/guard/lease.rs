//! The deadline and who may move it.

use hart_ha::time::Time;

use crate::types::{Armed, Refusal};

pub(super) struct Lease(Option<Armed>);

impl Lease {
    pub const fn new(armed: Option<Armed>) -> Self {
        Self(armed)
    }

    pub const fn armed(&self) -> Option<Armed> {
        self.0
    }

    pub fn over(&self, now: Time) -> bool {
        self.0.is_some_and(|armed| now >= armed.deadline)
    }

    /// Armed, and no deadline will come.
    pub fn is_endless(&self) -> bool {
        self.0.is_some_and(|armed| armed.deadline == Time::NEVER)
    }

    /// Takes the deadline of a term that is not lower than the one in force: later or earlier.
    /// Returns the lease as it was.
    pub fn arm(&mut self, new: Armed) -> Result<Self, Refusal> {
        self.same_or_higher(new.term)?;
        Ok(Self(self.0.replace(new)))
    }

    /// Takes the deadline away, for the holder of the term or a later one. Returns the lease as
    /// it was.
    pub fn disarm(&mut self, term: u64) -> Result<Self, Refusal> {
        self.same_or_higher(term)?;
        Ok(Self(self.0.take()))
    }

    fn same_or_higher(&self, term: u64) -> Result<(), Refusal> {
        match self.0 {
            Some(armed) if term < armed.term => Err(Refusal::LowerTerm),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(term: u64, ms: u64) -> Armed {
        Armed { term, deadline: Time::from_millis(ms) }
    }

    #[test]
    fn nothing_armed_is_never_over() {
        assert!(!Lease::new(None).over(Time::from_millis(u64::MAX)));
    }

    #[test]
    fn over_at_the_deadline_itself() {
        let lease = Lease::new(Some(armed(1, 10)));
        assert!(!lease.over(Time::from_millis(9)));
        assert!(lease.over(Time::from_millis(10)));
    }

    #[test]
    fn moves_both_ways_but_not_to_lower_terms() {
        let mut lease = Lease::new(None);
        assert!(lease.arm(armed(5, 100)).is_ok_and(|before| before.armed().is_none()));
        assert!(lease.arm(armed(5, 50)).is_ok_and(|before| before.armed() == Some(armed(5, 100))));
        assert!(lease.over(Time::from_millis(60)));
        assert!(lease.arm(armed(4, 900)).is_err_and(|no| no == Refusal::LowerTerm));
        assert_eq!(lease.armed(), Some(armed(5, 50)));
        assert!(lease.arm(armed(6, 70)).is_ok());
        assert!(lease.disarm(5).is_err());
        assert!(lease.disarm(6).is_ok());
        assert!(lease.armed().is_none());
    }
}
