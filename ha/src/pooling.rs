//! When clients of this host's poolers are to wait though nobody has planned it: the primary that
//! they are led to is lost.
//!
//! PgBouncer itself lets one client wait, and then disconnects every other one at once, until a login
//! has succeeded again. So the agent of the host pauses it as soon as it finds by itself that the
//! primary takes no connections, and lets it go on when a primary does. Nobody's word is taken for
//! that: a primary that accepts connections from here is never paused away from its clients, whatever
//! Consul shows (PgBouncer is on this host, so what the agent cannot reach, it cannot either), and a wait that was in vain is not begun again before a primary has accepted.

use std::time::Duration;

use crate::kv::{Lease, Term};
use crate::lease::challenger_start;
use crate::time::Time;

/// What this host finds at the address of who holds the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contact {
    /// It has not been asked, or its answer says neither: a login refused, a single answer that was late.
    #[default]
    Unknown,
    /// Neither a connection that was there nor a new one gets any answer in time.
    Silent,
    /// A primary lets us in.
    Accepts,
    /// Certainly no primary that takes connections: the port refuses, the server starts or stops, or is
    /// a standby.
    Refuses,
}

/// What is seen at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// When.
    pub now: Time,
    /// The lease as Consul showed it last.
    pub lease: Option<&'a Lease>,
    /// When that answer arrived.
    pub arrived: Time,
    /// Did the last call to Consul get an answer?
    pub reachable: bool,
    /// In which term, and what was found at its holder's address.
    pub contact: (Term, Contact),
}

impl Sight<'_> {
    fn contact(&self, lease: &Lease) -> Contact {
        let (term, contact) = self.contact;
        if term == lease.term { contact } else { Contact::Unknown }
    }
}

/// Does who holds this lease let this host in, by what was found there?
#[must_use]
pub fn accepts(lease: &Lease, found: (Term, Contact)) -> bool {
    found == (lease.term, Contact::Accepts)
}

/// Which lease, and since when it is seen unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Beat {
    term: Term,
    beat: u64,
    since: Time,
}

/// Watches over one primary after the other.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: Option<Beat>,
    /// A primary has accepted since the last wait.
    well: bool,
}

/// Why clients are to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It takes no connections.
    Refuses,
    /// It does not answer.
    Silent,
}

impl Watch {
    /// In which term the primary is lost, and how, where clients of it should wait for the next.
    pub fn look(&mut self, sight: &Sight<'_>) -> Option<(Term, Lost)> {
        let lease = sight.lease?;
        let over = self.is_over(lease, sight);
        match sight.contact(lease) {
            Contact::Accepts => self.well = true,
            Contact::Refuses if self.well => return Some((lease.term, Lost::Refuses)),
            Contact::Silent if self.well => return Some((lease.term, Lost::Silent)),
            Contact::Unknown if self.well && over => return Some((lease.term, Lost::Silent)),
            _ => {}
        }
        None
    }

    /// A wait has ended, however it did: only who has seen a primary after it begins another.
    pub fn waited(&mut self) {
        self.well = false;
    }

    /// When to look again though nothing changes: the lease that is seen ends then.
    #[must_use]
    pub fn next(&self, now: Time, ttl: Duration) -> Option<Time> {
        let seen = self.seen.as_ref().filter(|_| self.well);
        seen.map(|beat| challenger_start(beat.since, ttl)).filter(|end| *end > now)
    }

    /// Given up, or not renewed for so long that it could be taken. While Consul is silent nothing is
    /// known: the holder may go on by the promises of all.
    fn is_over(&mut self, lease: &Lease, sight: &Sight<'_>) -> bool {
        let (term, beat) = (lease.term, lease.beat);
        let same = self.seen.as_ref().filter(|seen| (seen.term, seen.beat) == (term, beat));
        let since = same.map_or(sight.arrived, |seen| seen.since);
        self.seen = Some(Beat { term, beat, since });
        let late = sight.now >= challenger_start(since, lease.ttl());
        !lease.is_held() || late && !lease.open && sight.reachable
    }
}

#[cfg(test)]
mod tests {
    use super::Contact::{Accepts, Refuses, Unknown};
    use super::*;
    use crate::kv::LeaseState;

    const TTL_MS: u64 = 3000;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn lease(term: Term, beat: u64) -> Lease {
        let (holder, instance) = ("n1".into(), "i-n1".into());
        Lease {
            holder,
            instance,
            term,
            ttl_ms: TTL_MS,
            beat,
            state: LeaseState::Held,
            from: None,
            open: false,
            revocable: false,
            revoked_ms: None,
        }
    }

    fn sight(now: u64, lease: &Lease, contact: Contact) -> Sight<'_> {
        let (now, contact) = (at(now), (lease.term, contact));
        Sight { now, lease: Some(lease), arrived: now, reachable: true, contact }
    }

    /// A watch that has seen the primary of term 4.
    fn well() -> Watch {
        let mut watch = Watch::default();
        assert_eq!(watch.look(&sight(0, &lease(4, 1), Accepts)), None);
        watch
    }

    #[test]
    fn a_port_that_refuses_is_a_lost_primary_at_once() {
        let lease = lease(4, 1);
        assert_eq!(well().look(&sight(1, &lease, Refuses)), Some((4, Lost::Refuses)));
        let away = Sight { reachable: false, ..sight(1, &lease, Refuses) };
        assert_eq!(well().look(&away), Some((4, Lost::Refuses)), "whether or not Consul answers");
    }

    #[test]
    fn nobody_waits_for_a_primary_that_has_never_been_there() {
        let mut watch = Watch::default();
        for contact in [Unknown, Refuses] {
            assert_eq!(watch.look(&sight(9000, &lease(4, 1), contact)), None);
        }
        let lease = lease(4, 1);
        let nobody = Sight { lease: None, ..sight(0, &lease, Refuses) };
        assert_eq!(well().look(&nobody), None);
    }

    #[test]
    fn silence_alone_is_no_loss_before_the_lease_is_over() {
        let mut watch = well();
        let (first, next) = (lease(4, 1), lease(4, 2));
        assert_eq!(watch.next(at(1), first.ttl()), Some(at(3330)));
        assert_eq!(watch.look(&sight(3329, &first, Unknown)), None);
        let mut renewed = watch.clone();
        assert_eq!(watch.look(&sight(3330, &first, Unknown)), Some((4, Lost::Silent)));
        assert_eq!(renewed.look(&sight(3330, &next, Unknown)), None);
        assert_eq!(renewed.look(&sight(6659, &next, Unknown)), None);
        assert_eq!(renewed.look(&sight(6660, &next, Unknown)), Some((4, Lost::Silent)));
    }

    /// PgBouncer gives it up after server_connect_timeout, and disconnects clients from then on.
    #[test]
    fn who_answers_neither_the_old_nor_a_new_connection_is_lost_at_once() {
        let lease = lease(4, 1);
        assert_eq!(well().look(&sight(1, &lease, Contact::Silent)), Some((4, Lost::Silent)));
        let away = Sight { reachable: false, ..sight(1, &lease, Contact::Silent) };
        assert_eq!(well().look(&away), Some((4, Lost::Silent)));
        assert_eq!(Watch::default().look(&sight(1, &lease, Contact::Silent)), None);
    }

    #[test]
    fn a_lease_that_ends_is_no_loss_while_the_primary_answers() {
        let mut watch = well();
        assert_eq!(watch.look(&sight(9000, &lease(4, 1), Accepts)), None, "it has promises");
    }

    #[test]
    fn while_consul_is_away_silence_says_nothing() {
        let mut watch = well();
        let lease = lease(4, 1);
        let away = Sight { reachable: false, ..sight(9000, &lease, Unknown) };
        assert_eq!(watch.look(&away), None);
        assert_eq!(watch.look(&sight(9001, &lease, Unknown)), Some((4, Lost::Silent)));
    }

    #[test]
    fn who_gives_the_lease_up_and_is_silent_is_lost() {
        let released = Lease { state: LeaseState::Released, ..lease(4, 1) };
        assert_eq!(well().look(&sight(1, &released, Unknown)), Some((4, Lost::Silent)));
    }

    #[test]
    fn what_was_found_at_another_leader_counts_for_nothing() {
        let mut watch = well();
        let next = lease(5, 1);
        let old = Sight { contact: (4, Refuses), ..sight(1, &next, Refuses) };
        assert_eq!(watch.look(&old), None);
        let old = Sight { contact: (4, Accepts), ..old };
        assert!(!accepts(&next, old.contact));
        assert_eq!(
            watch.look(&sight(2, &next, Refuses)),
            Some((5, Lost::Refuses)),
            "its heir starts"
        );
        assert!(accepts(&next, (5, Accepts)) && !accepts(&next, (5, Refuses)));
    }

    #[test]
    fn a_wait_in_vain_is_not_begun_again_before_a_primary_was_there() {
        let mut watch = well();
        assert!(watch.look(&sight(1, &lease(4, 1), Refuses)).is_some());
        watch.waited();
        assert_eq!(watch.next(at(1), lease(4, 1).ttl()), None);
        assert_eq!(watch.look(&sight(30_000, &lease(4, 1), Refuses)), None);
        assert_eq!(watch.look(&sight(30_001, &lease(5, 1), Refuses)), None);
        assert_eq!(watch.look(&sight(30_002, &lease(5, 1), Accepts)), None);
        assert_eq!(watch.look(&sight(30_003, &lease(5, 1), Refuses)), Some((5, Lost::Refuses)));
    }
}
