//! Since when has the lease been seen unchanged?

use std::time::Duration;

use crate::kv::{Lease, LeaseState, TTL_MAX, Term};
use crate::lease::{challenger_start, challenger_wait};
use crate::store::Index;
use crate::time::Time;

/// What a challenger knows of the lease.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseWatch {
    seen: bool,
    lease: Option<Lease>,
    since: Time,
    /// The version of `status`, and since when it has been this one.
    version: (Index, Time),
    /// Since when the record has been one of the past.
    old: Option<Time>,
    /// The last lease that was in the store, for a store that has lost it.
    last: Option<Lease>,
}

impl LeaseWatch {
    /// The record, and the version of `status`, as an answer that arrived at `arrived` showed them.
    pub fn see(&mut self, lease: Option<&Lease>, version: Index, arrived: Time) {
        if !self.seen || self.version.0 != version {
            self.version = (version, arrived);
        }
        if self.seen && self.lease.as_ref() == lease {
            return;
        }
        let term = |lease: Option<&Lease>| lease.map(|lease| lease.term);
        if term(self.lease.as_ref()) != term(lease) {
            self.old = None;
        }
        (self.seen, self.since) = (true, arrived);
        self.lease = lease.cloned();
        // An answer may be of the past: what was there later is the last one.
        let count = |lease: &Lease| (lease.term, lease.beat);
        if lease.map(count) > self.last.as_ref().map(count) {
            self.last = lease.cloned();
        }
    }

    /// The highest beat ever seen.
    pub fn beat(&self) -> u64 {
        self.last.as_ref().map_or(0, |lease| lease.beat)
    }

    /// The highest term ever seen.
    pub fn term(&self) -> u64 {
        self.last.as_ref().map_or(0, |lease| lease.term)
    }

    /// Is the record, which arrived at `arrived`, one of a term before `known`: a picture of the past,
    /// as a silent Consul leaves it, or a server that has fallen behind shows it? One that is still
    /// shown after a while is believed: a wiped store may have begun to count anew. So is one that
    /// Consul, which has answered without a break since `answers_since`, has had nothing to add to.
    pub fn is_old(
        &mut self,
        known: Term,
        now: Time,
        arrived: Time,
        answers_since: Option<Time>,
    ) -> bool {
        let old = self.lease.as_ref().is_some_and(|lease| lease.term < known);
        self.old = old.then(|| self.old.unwrap_or(now));
        // Longer than any server of Consul's answers from the past, and than the lease of a later
        // term can last that a restored store does not show.
        let long = challenger_wait(TTL_MAX);
        self.old.is_some_and(|since| {
            let quiet = answers_since.is_some_and(|answers| now >= answers.max(since) + long);
            arrived < since + long && !quiet
        })
    }

    /// Was the last lease that was seen this one's?
    pub fn was_held_by(&self, name: &str) -> bool {
        self.last.as_ref().is_some_and(|lease| lease.holder == name)
    }

    /// The holder, and its installation, of a lease without an end, also of one that has vanished.
    pub fn open_holder(&self) -> Option<(&str, &str)> {
        let lease = self.lease.as_ref().or(self.last.as_ref()).filter(|lease| lease.open)?;
        Some((&lease.holder, &lease.instance))
    }

    /// When the record that is there has not been renewed for a whole lease. Who lives renews one without an
    /// end as well: whoever says that its holder is gone is wrong before.
    pub fn quiet_at(&self) -> Option<Time> {
        self.lease.as_ref().map(|lease| challenger_start(self.since, lease.longest()))
    }

    /// Since when it has been as it is.
    pub fn since(&self) -> Time {
        self.since
    }

    /// When another node may take over. A record that has vanished may still be believed in by its
    /// holder, and may have been of a ttl that this node never saw: it is waited for as long as the
    /// longest lease that can be given. Who has never known of any (`is_member` and no record seen)
    /// waits for as long as one of the settings in force. One without an end that has vanished is waited for
    /// for ever, but by its holder.
    pub fn free_at(&self, is_member: bool, configured: Duration, holder: bool) -> Time {
        match &self.lease {
            Some(lease) if lease.state == LeaseState::Released => self.since,
            Some(lease) if lease.open => Time::NEVER,
            None if !holder && self.last.as_ref().is_some_and(|last| last.open) => Time::NEVER,
            Some(lease) => challenger_start(self.since, lease.longest()),
            // Each beat differs from every other, but "no record" may be seen twice with a lease in
            // between: only the version of the empty `status` tells.
            None if self.has_vanished(is_member) => {
                self.version.1.max(self.since) + challenger_wait(TTL_MAX)
            }
            None => self.since + challenger_wait(configured),
        }
    }

    /// Has there been a record that is not there any more?
    pub fn has_vanished(&self, is_member: bool) -> bool {
        self.seen && self.lease.is_none() && (is_member || self.last.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(beat: u64, state: LeaseState) -> Lease {
        Lease {
            holder: "n1".into(),
            instance: "i".into(),
            term: 1,
            ttl_ms: 4000,
            beat,
            state,
            from: None,
            open: false,
            revocable: false,
            revoked_ms: None,
        }
    }

    #[test]
    fn every_beat_starts_the_wait_anew() {
        let mut watch = LeaseWatch::default();
        let free = |watch: &LeaseWatch| watch.free_at(true, Duration::ZERO, false);
        watch.see(Some(&lease(1, LeaseState::Held)), 1, Time::from_millis(100));
        assert_eq!(free(&watch), Time::from_millis(100 + 4000 + 40 + 400));
        watch.see(Some(&lease(1, LeaseState::Held)), 1, Time::from_millis(900));
        assert_eq!(free(&watch), Time::from_millis(100 + 4440), "the same beat does not");
        watch.see(Some(&lease(2, LeaseState::Held)), 1, Time::from_millis(1000));
        assert_eq!(free(&watch), Time::from_millis(1000 + 4440));
        watch.see(Some(&lease(3, LeaseState::Released)), 1, Time::from_millis(1500));
        assert_eq!(free(&watch), Time::from_millis(1500));
    }

    /// A server of Consul's that has fallen behind may show what was before.
    #[test]
    fn a_picture_of_the_past_is_not_the_last_lease_that_there_was() {
        let mut watch = LeaseWatch::default();
        let past = Lease { open: true, ..lease(1, LeaseState::Held) };
        let later = Lease { term: 2, holder: "n2".into(), ..lease(9, LeaseState::Held) };
        for (lease, at) in [(Some(&later), 100), (Some(&past), 200), (None, 300)] {
            watch.see(lease, at, Time::from_millis(at));
        }
        assert_eq!((watch.term(), watch.open_holder()), (2, None));
        assert!(watch.free_at(true, Duration::ZERO, false) < Time::NEVER);
    }

    #[test]
    fn a_vanished_lease_is_waited_for_as_long_as_the_longest_one() {
        let (longest, configured) = (30_000 + 300 + 3000, Duration::from_secs(2));
        let mut watch = LeaseWatch::default();
        watch.see(Some(&lease(1, LeaseState::Held)), 5, Time::from_millis(0));
        watch.see(None, 6, Time::from_millis(50));
        assert_eq!(watch.free_at(false, configured, false), Time::from_millis(50 + longest));
        watch.see(None, 6, Time::from_millis(60));
        assert_eq!(watch.free_at(false, configured, false), Time::from_millis(50 + longest));
        watch.see(None, 9, Time::from_millis(70));
        let between = "there may have been one in between";
        assert_eq!(
            watch.free_at(false, configured, false),
            Time::from_millis(70 + longest),
            "{between}"
        );
        let mut restarted = LeaseWatch::default();
        restarted.see(None, 6, Time::from_millis(50));
        assert_eq!(restarted.free_at(true, configured, false), Time::from_millis(50 + longest));
        assert_eq!(restarted.free_at(false, configured, false), Time::from_millis(50 + 2320));
    }
}
