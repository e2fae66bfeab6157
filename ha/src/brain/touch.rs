//! Is the failsafe list that this node knows the last one there was, where Consul has lost it?
//!
//! A list changes only under the lock, and with a record of the lease in the store. So it is the last one
//! where this node has seen the store without a break from a picture with a record on; and where the
//! store had lost the record before a break, and nobody has written `status` until after it.

use crate::store::{Index, Snapshot};

/// See the module's text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touch {
    holds: bool,
    /// The version of the empty `status` that was seen in touch.
    without_record: Option<Index>,
}

impl Touch {
    /// A picture, and whether Consul answers at present.
    pub fn see(&mut self, snapshot: &Snapshot, reachable: bool) {
        if !reachable {
            return self.lose();
        }
        let record = snapshot.lease().is_some();
        let empty = snapshot.status.as_ref().filter(|_| !record).map(|status| status.index);
        self.holds |= record || empty.is_some() && self.without_record == empty;
        self.without_record = empty.filter(|_| self.holds);
    }

    /// What happens from now on is not seen.
    pub fn lose(&mut self) {
        self.holds = false;
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
        let mut touch = Touch::default();
        touch.see(&empty(8), true);
        assert!(!touch.is_kept(), "just started");
        touch.see(&cluster(), true);
        assert!(touch.is_kept());
        touch.see(&empty(8), true);
        assert!(touch.is_kept(), "it has seen the record vanish");
        touch.see(&empty(8), false);
        assert!(!touch.is_kept());
        touch.see(&empty(8), true);
        assert!(touch.is_kept(), "the same version");
        touch.see(&empty(8), false);
        touch.see(&empty(9), true);
        assert!(!touch.is_kept(), "a record may have been there in between");
        touch.see(&empty(9), true);
        assert!(!touch.is_kept());
        let nothing = Snapshot { status: None, ..cluster() };
        touch.see(&cluster(), true);
        touch.see(&nothing, true);
        touch.see(&nothing, false);
        touch.see(&nothing, true);
        assert!(!touch.is_kept(), "nothing may be seen twice with a record in between");
    }
}
