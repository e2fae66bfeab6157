//! Is the failsafe list that this node knows the last one there was, where Consul has lost it?
//!
//! A list changes only under the lock, and with a record of the lease in the store. So it is the last one
//! where this node has seen the store without a break from a picture with a record on; and where the
//! store had lost the record before a break, and nobody has written `status` until after it.

use crate::store::{Index, Snapshot};
use crate::time::Time;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touch {
    holds: bool,
    /// The version of the empty `status` that was seen in touch.
    without_record: Option<Index>,
    /// A picture that arrived before says nothing any more.
    since: Time,
}

impl Touch {
    /// A picture, when it arrived, and whether Consul answers at present.
    pub fn see(&mut self, snapshot: &Snapshot, arrived: Time, reachable: bool) {
        self.holds &= reachable;
        if !reachable || arrived < self.since {
            return;
        }
        let record = snapshot.lease().is_some();
        let empty = snapshot.status.as_ref().filter(|_| !record).map(|status| status.index);
        self.holds |= record || empty.is_some() && self.without_record == empty;
        self.without_record = empty.filter(|_| self.holds);
    }

    /// Nobody has looked for a while, until `now`.
    pub fn sleep(&mut self, now: Time) {
        (self.holds, self.since) = (false, now);
    }

    /// A picture with a record would say the same.
    pub fn keep(&mut self) {
        self.holds = true;
    }

    /// The list that is known is the last one.
    pub fn is_kept(self) -> bool {
        self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brain::tests::cluster;

    fn empty(index: Index) -> Snapshot {
        let mut snapshot = cluster();
        let status = snapshot.status.as_mut().unwrap();
        (status.value.lease, status.index) = (None, index);
        snapshot
    }

    #[test]
    fn a_break_counts_unless_nobody_can_have_written_in_it() {
        let (mut touch, at) = (Touch::default(), Time::from_millis(100));
        touch.see(&empty(8), at, true);
        assert!(!touch.is_kept(), "just started");
        touch.see(&cluster(), at, true);
        assert!(touch.is_kept());
        touch.see(&empty(8), at, true);
        assert!(touch.is_kept(), "it has seen the record vanish");
        touch.see(&empty(8), at, false);
        assert!(!touch.is_kept());
        touch.see(&empty(8), at, true);
        assert!(touch.is_kept(), "the same version");
        touch.see(&empty(8), at, false);
        touch.see(&empty(9), at, true);
        assert!(!touch.is_kept(), "a record may have been there in between");
        touch.see(&empty(9), at, true);
        assert!(!touch.is_kept());
        let nothing = Snapshot { status: None, ..cluster() };
        touch.see(&cluster(), at, true);
        touch.see(&nothing, at, true);
        touch.see(&nothing, at, false);
        touch.see(&nothing, at, true);
        assert!(!touch.is_kept(), "nothing may be seen twice with a record in between");
    }

    #[test]
    fn after_a_sleep_only_a_picture_that_arrived_since_counts() {
        let mut touch = Touch::default();
        touch.see(&cluster(), Time::from_millis(100), true);
        touch.sleep(Time::from_millis(50_000));
        touch.see(&cluster(), Time::from_millis(100), true);
        assert!(!touch.is_kept());
        touch.see(&empty(8), Time::from_millis(50_001), true);
        assert!(!touch.is_kept(), "a record may have come and gone");
        touch.see(&cluster(), Time::from_millis(50_002), true);
        assert!(touch.is_kept());
    }
}
