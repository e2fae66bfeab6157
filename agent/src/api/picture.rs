//! What is derived from a view at the moment of answering.

use std::time::Duration;

use hart_ha::kv::{Role, State, SynchronousMode};
use hart_ha::lsn::Lsn;
use hart_ha::store::Snapshot;
use hart_ha::time::Time;

use crate::node::view::View;

/// How long Consul's last answer stands for the cluster at least, however short the ttl is.
const STANDS_AT_LEAST: Duration = Duration::from_secs(10);

/// A view, with the node's name and the moment of answering.
#[derive(Clone, Copy)]
pub(super) struct Picture<'a> {
    pub(super) view: &'a View,
    pub(super) name: &'a str,
    pub(super) now: Time,
}

impl<'a> Picture<'a> {
    /// A primary that may be written to at this moment: the lease's deadline counts now, not when
    /// the view was made.
    pub(super) fn leads(&self) -> bool {
        self.view.leads(self.now)
    }

    /// Leads a standby cluster at this moment.
    pub(super) fn leads_standbys(&self) -> bool {
        self.view.role == Role::StandbyLeader
            && self.view.state == State::Running
            && self.view.until().is_some_and(|deadline| self.now < deadline)
    }

    /// The cluster, unless Consul has been silent for so long that this may be the past.
    pub(super) fn cluster(&self) -> Option<&'a Snapshot> {
        let stands = self.view.config.ttl.max(STANDS_AT_LEAST);
        let snapshot = self.view.snapshot.as_deref()?;
        (self.now.since(self.view.store_arrived) < stands).then_some(snapshot)
    }

    /// Nobody is known to lead.
    pub(super) fn unlocked(&self) -> bool {
        !self.leads() && self.cluster().is_none_or(|cluster| cluster.leader_name().is_none())
    }

    /// The key in the status of a synchronous standby: `sync_standby` or `quorum_standby`.
    pub(super) fn sync_word(&self) -> Option<&'static str> {
        let word = match self.view.config.synchronous_mode {
            SynchronousMode::Off => return None,
            SynchronousMode::On => "sync_standby",
            SynchronousMode::Quorum => "quorum_standby",
        };
        let sync = self.cluster()?.sync.as_ref()?;
        let named = self.view.role == Role::Replica && sync.value.standbys().contains(self.name);
        named.then_some(word)
    }

    /// It leads without Consul by the members' promises, or has given one that binds.
    pub(super) fn failsafe_is_active(&self) -> bool {
        let lease = self.view.observation.as_ref().map(|seen| &seen.lease);
        let binds = |until: Time| self.now < until;
        lease.is_some_and(|lease| {
            lease.by_promises || lease.promised.as_ref().is_some_and(|given| binds(given.until))
        })
    }

    /// Where the leader's WAL ends, as last published.
    pub(super) fn leader_end(&self) -> Option<Lsn> {
        self.cluster()?.status.as_ref()?.value.optime
    }

    /// The server is there, so that its last answer can be shown.
    pub(super) fn answers(&self) -> bool {
        matches!(self.view.state, State::Running | State::Starting | State::Restarting)
    }

    /// How far a replica has received.
    pub(super) fn received(&self) -> Option<Lsn> {
        let sql = self.view.sql.as_ref()?;
        let probed = self.view.probe.as_ref().filter(|probe| probe.in_recovery);
        let received = match probed {
            Some(probe) => probe.receive_lsn.or(probe.replay_lsn),
            None => Some(sql.receive_lsn.max(sql.replay_lsn)),
        };
        received.filter(|_| sql.in_recovery)
    }

    /// How far a replica has replayed.
    pub(super) fn replayed(&self) -> Option<Lsn> {
        let sql = self.view.sql.as_ref().filter(|sql| sql.in_recovery)?;
        let probed = self.view.probe.as_ref().filter(|probe| probe.in_recovery);
        probed.map_or(Some(sql.replay_lsn), |probe| probe.replay_lsn)
    }

    /// `streaming` or `in archive recovery`, of a replica.
    pub(super) fn replication_state(&self) -> Option<&'static str> {
        let sql = self.view.sql.as_ref().filter(|sql| sql.in_recovery && self.answers())?;
        Some(if sql.streaming { "streaming" } else { "in archive recovery" })
    }
}
