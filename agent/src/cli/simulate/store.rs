//! Consul, as far as the brain uses it: keys with versions, locks, and the lease transactions.

use std::sync::Arc;

use hart_ha::command::Write;
use hart_ha::keeper::Call;
use hart_ha::kv::SyncState;
use hart_ha::store::{Index, LeaseTxn, LeaseView, Outcome, Snapshot, Versioned};

/// The keys, as they change in virtual time.
#[derive(Clone, Debug)]
pub(super) struct Store {
    snapshot: Arc<Snapshot>,
    index: Index,
}

impl Store {
    /// From what Consul has now.
    pub fn new(snapshot: Snapshot) -> Self {
        // Above every version there is.
        Self { snapshot: Arc::new(snapshot), index: 1 << 62 }
    }

    /// What a read shows.
    pub fn read(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    /// What a read-back of the lease keys shows.
    pub fn lease(&self) -> LeaseView {
        LeaseView::from(self.snapshot.as_ref())
    }

    /// A lease transaction's outcome.
    pub fn call(&mut self, call: &Call) -> Outcome {
        let Call::Txn(txn) = call else { return Outcome::NotSent };
        let at = match txn {
            LeaseTxn::Renew { at, .. }
            | LeaseTxn::Lock { at, .. }
            | LeaseTxn::Release { at, .. } => *at,
        };
        let locked = self.snapshot.leader_session().cloned();
        let stands = match txn {
            LeaseTxn::Renew { session, .. } | LeaseTxn::Release { session, .. } => {
                locked.as_ref() == Some(session)
            }
            LeaseTxn::Lock { unlock, session, .. } => {
                locked.is_none() || locked == *unlock || locked.as_ref() == Some(session)
            }
        };
        if !stands || at != self.snapshot.status_index() {
            return Outcome::Rejected;
        }
        if let LeaseTxn::Lock { sync: Some((sync_at, state)), .. } = txn {
            if self.snapshot.sync.as_ref().map_or(0, |sync| sync.index) != *sync_at {
                return Outcome::Rejected;
            }
            let index = self.next();
            let sync = Versioned { value: state.clone(), index, session: None };
            Arc::make_mut(&mut self.snapshot).sync = Some(sync);
        }
        let index = self.next();
        let snapshot = Arc::make_mut(&mut self.snapshot);
        let status = match txn {
            LeaseTxn::Renew { status, .. } | LeaseTxn::Lock { status, .. } => status,
            LeaseTxn::Release { status, .. } => status,
        };
        snapshot.status = Some(Versioned { value: status.clone(), index, session: None });
        match txn {
            LeaseTxn::Renew { .. } => {}
            LeaseTxn::Release { .. } => snapshot.leader = None,
            LeaseTxn::Lock { session, name, .. } => {
                let session = Some(session.clone());
                snapshot.leader = Some(Versioned { value: name.clone(), index, session });
            }
        }
        Outcome::Applied(Some(index))
    }

    /// A write of the brain of `name`, whose session is `session`.
    pub fn write(&mut self, name: &str, session: Option<&String>, write: Write) {
        let index = self.next();
        let held = self.snapshot.leader_session();
        let leads = held.is_some() && held == session;
        let snapshot = Arc::make_mut(&mut self.snapshot);
        let sync_at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        match write {
            Write::Member(member) => {
                let session = session.cloned();
                snapshot
                    .members
                    .insert(name.to_owned(), Versioned { value: *member, index, session });
            }
            Write::ClearFailover(at) => {
                snapshot.failover =
                    snapshot.failover.take().filter(|failover| failover.index != at);
            }
            Write::FailoverIsDue { request: value, at }
                if snapshot.failover.as_ref().is_some_and(|failover| failover.index == at) =>
            {
                snapshot.failover = Some(Versioned { value, index, session: None });
            }
            Write::Sync { standbys, quorum, at } if at == sync_at => {
                let value = SyncState::with_quorum(name, &standbys, quorum).replacing(at);
                snapshot.sync = Some(Versioned { value, index, session: None });
            }
            Write::DeleteSync(at) if at == sync_at => snapshot.sync = None,
            Write::History(value) => {
                snapshot.history = Some(Versioned { value, index, session: None });
            }
            Write::Failsafe { list, at } => {
                let stored = snapshot.failsafe.as_ref().map_or(0, |failsafe| failsafe.index);
                if leads && at == stored {
                    snapshot.failsafe = Some(Versioned { value: list, index, session: None });
                }
            }
            // A cluster that runs has its identity and settings.
            _ => {}
        }
    }

    /// The sessions of these members have ended: Consul deletes what they locked.
    pub fn end_sessions(&mut self, gone: impl Fn(&str) -> bool) {
        self.next();
        let snapshot = Arc::make_mut(&mut self.snapshot);
        let lost: Vec<_> = snapshot.members.keys().filter(|name| gone(name)).cloned().collect();
        for name in lost {
            let session = snapshot.members.remove(&name).and_then(|member| member.session);
            if session.is_some() && snapshot.leader_session() == session.as_ref() {
                snapshot.leader = None;
            }
        }
    }

    fn next(&mut self) -> Index {
        self.index += 1;
        self.index
    }
}
