//! May this node lead, and is a peer better placed? Every refusal names the rule, the value and
//! the remedy.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Brain;
use super::race::is_member;
use super::turn::Turn;
use crate::kv::{Role, State, SynchronousMode, Term};
use crate::lsn::{Lsn, Timeline};
use crate::observation::{Data, PeerAnswer};
use crate::store::Snapshot;

/// Why a node may not lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule, one word.
    pub rule: String,
    /// The value that breaks it.
    pub value: String,
    /// What a person can do.
    pub remedy: String,
}

/// May this node lead, as far as its own state says?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Leads,
    /// It may, when the lease is free.
    MayLead,
    /// It may not.
    MayNot(Refusal),
}

impl Verdict {
    pub(super) fn unknown() -> Self {
        refuse("store", "Consul has not answered yet", "check the address and token of Consul")
    }

    /// Is lag the only rule that forbids it? An operator may say that this does not matter.
    pub(super) fn only_lags(&self) -> bool {
        matches!(self, Self::MayNot(refusal) if refusal.rule == "lag")
    }

    /// Leads already, or may.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        !matches!(self, Self::MayNot(_))
    }
}

pub(super) fn refuse(rule: &str, value: impl Into<String>, remedy: &str) -> Verdict {
    let (rule, value, remedy) = (rule.to_owned(), value.into(), remedy.to_owned());
    Verdict::MayNot(Refusal { rule, value, remedy })
}

/// The order of candidates: timeline, then WAL position, then `failover_priority`, then name (the
/// first in the alphabet wins, so that equal nodes do not race each other).
type Rank<'a> = (Timeline, Lsn, u32, Reverse<&'a str>);

impl Brain {
    /// The rules that need no other node's word.
    pub(super) fn verdict(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Verdict {
        if turn.obs.lease.hold.is_some() {
            return Verdict::Leads;
        }
        let rules = [
            Self::not_stopping,
            Self::no_strangers,
            Self::tags_allow,
            Self::has_data,
            Self::is_healthy,
            Self::has_room,
            Self::can_note,
            Self::in_failsafe_list,
            Self::is_whole,
            Self::in_sync_set,
            Self::not_forked,
            Self::lag_allows,
        ];
        let broken = rules.iter().find_map(|rule| rule(self, turn, snapshot));
        broken.unwrap_or(Verdict::MayLead)
    }

    /// It would end at its promotion, and nobody would lead meanwhile.
    fn has_room(&self, turn: &Turn<'_>, _: &Snapshot) -> Option<Verdict> {
        let cramped = turn.obs.local.cramped.as_ref().filter(|_| turn.is_replica())?;
        Some(refuse("room", cramped.clone(), "make room on that file system"))
    }

    /// It could not note the term of its reign, and would give the lease up again.
    fn can_note(&self, turn: &Turn<'_>, _: &Snapshot) -> Option<Verdict> {
        let why = turn.obs.local.forgetful.clone()?;
        Some(refuse("state directory", why, "mend that file system, or make room on it"))
    }

    fn not_stopping(&self, turn: &Turn<'_>, _: &Snapshot) -> Option<Verdict> {
        let remedy = "start the agent again";
        turn.obs.shutdown.then(|| refuse("shutdown", "the agent is stopping", remedy))
    }

    fn tags_allow(&self, _: &Turn<'_>, _: &Snapshot) -> Option<Verdict> {
        let tags = &self.settings.tags;
        let which = if tags.nofailover { "nofailover: true" } else { "failover_priority: 0" };
        (!tags.may_fail_over()).then(|| refuse("tags", which, "remove the tag and reload"))
    }

    fn has_data(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<Verdict> {
        let local = &turn.obs.local;
        let remedy = "see the agent's log for why PostgreSQL is not ready";
        let given_up = self.data_is_given_up(turn, snapshot);
        match (&local.data, &local.sql) {
            (Data::Unknown | Data::Empty | Data::HalfMade, _) => {
                Some(refuse("data", "no complete data directory", remedy))
            }
            _ if given_up => Some(refuse("data", "must be cloned anew", remedy)),
            (_, None) => Some(refuse("running", "PostgreSQL does not answer", remedy)),
            _ => None,
        }
    }

    /// A cut-off leader may go on for as long as everybody on the list promises not to lead. The
    /// list counts, not the present setting, of which the leader may not know.
    fn in_failsafe_list(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<Verdict> {
        let stored = snapshot.failsafe.as_ref().map(|failsafe| &failsafe.value);
        // One that has vanished still binds its leader's peers, and nobody else.
        let known = &turn.obs.local.memory.failsafe;
        let list = stored.or_else(|| self.agreement.last_seen()).unwrap_or(known);
        let missing = !list.is_empty() && !list.contains_key(&self.settings.name);
        missing.then(|| {
            let names: Vec<_> = list.keys().map(String::as_str).collect();
            let value = format!("the key failsafe names {}, and not this node", names.join(", "));
            let remedy = "bring one of them back: the next leader enters this node; or, when \
                          PostgreSQL surely runs on none of them, set the key to {}";
            refuse("failsafe", value, remedy)
        })
    }

    fn in_sync_set(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<Verdict> {
        let sync = &snapshot.sync.as_ref()?.value;
        self.is_outside_sync(turn, snapshot).then(|| {
            let set: Vec<_> = sync.leader.iter().cloned().chain(sync.standbys()).collect();
            let value = format!("the published synchronous set is {}", set.join(", "));
            let remedy = "bring one of its nodes back; or accept the loss of acknowledged commits by \
                          setting synchronous_mode to off";
            refuse("sync", value, remedy)
        })
    }

    /// Our timeline has ended before our position: what we have beyond is not in the cluster.
    fn not_forked(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<Verdict> {
        let sql = turn.obs.local.sql.as_ref()?;
        if self.led_last(turn, snapshot, sql.timeline) {
            return None;
        }
        let history = &snapshot.history.as_ref()?.value;
        let end = history.iter().find(|entry| entry.0 == sql.timeline)?.1;
        (sql.position() > end).then(|| {
            let value =
                format!("at {} on timeline {}, which ended at {end}", sql.position(), sql.timeline);
            refuse("timeline", value, "it is rewound when a leader is there")
        })
    }

    /// Nobody has led after this node, or after its timeline began: an end of that number is of another
    /// timeline. A node that never got the newer ones uses their numbers again when it is promoted, and
    /// may be gone before it has said so.
    fn led_last(&self, turn: &Turn<'_>, snapshot: &Snapshot, timeline: Timeline) -> bool {
        let Some(lease) = snapshot.lease() else { return false };
        let began = turn.obs.local.memory.origins.get(&timeline);
        // What was restored is not what it led with.
        let mine = self.is_me(&lease.holder)
            && lease.instance == self.settings.instance
            && !turn.obs.local.memory.restored;
        mine || began.is_some_and(|term| *term >= lease.term)
    }

    fn lag_allows(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<Verdict> {
        if turn.config.synchronous_mode != SynchronousMode::Off && snapshot.sync.is_some() {
            return None;
        }
        let position = turn.obs.local.sql.as_ref()?.position();
        let lag = snapshot.status.as_ref()?.value.optime?.bytes_since(position);
        let limit = turn.config.maximum_lag_on_failover;
        (lag > limit).then(|| {
            let value = format!("{lag} bytes behind, maximum_lag_on_failover is {limit}");
            refuse("lag", value, "raise maximum_lag_on_failover, or `hart failover --candidate`")
        })
    }

    fn my_rank<'a>(&'a self, turn: &Turn<'_>) -> Option<Rank<'a>> {
        let sql = turn.obs.local.sql.as_ref()?;
        let name = Reverse(self.settings.name.as_str());
        Some((sql.timeline, sql.position(), self.settings.tags.priority(), name))
    }

    /// A reachable node that says it is a running primary.
    pub(super) fn living_primary<'a>(&self, turn: &Turn<'a>) -> Option<&'a str> {
        let alive = |peer: &PeerAnswer| {
            matches!(peer.role, Role::Primary | Role::StandbyLeader) && peer.state == State::Running
        };
        turn.answers().find(|(_, peer)| alive(peer)).map(|(name, _)| name.as_str())
    }

    /// Consul has lost the failsafe list, and this node had no touch with it before: the list may have
    /// changed, and a leader that is cut off may go on by the word of those on it, or by nobody's. Why
    /// that is not ruled out: each on the lists that are known must answer, hold no lease and be bound to
    /// nobody.
    pub(super) fn may_go_on_elsewhere(
        &self,
        turn: &Turn<'_>,
        snapshot: &Snapshot,
    ) -> Option<String> {
        let lost = self.watch.has_vanished(is_member(turn)) && snapshot.failsafe.is_none();
        if self.touch.is_kept() || !lost {
            return None;
        }
        let own = self.agreement.last_seen().unwrap_or(&turn.obs.local.memory.failsafe);
        let mut names: BTreeSet<&String> = own.keys().collect();
        for (name, peer) in turn.answers() {
            if peer.holds {
                return Some(format!("{name} says that it holds the lease"));
            }
            if let Some(holder) = peer.promised.as_ref().filter(|holder| !self.is_me(holder)) {
                return Some(format!("{name} has promised {holder} not to lead"));
            }
            names.extend(peer.failsafe.keys());
        }
        let answers =
            |name: &str| turn.answers().any(|(it, peer)| it == name && turn.is_itself(it, peer));
        let silent = names.into_iter().find(|name| !self.is_me(name) && !answers(name))?;
        Some(format!(
            "{silent} does not answer, and may lead without Consul: bring it back; or, when PostgreSQL \
             surely runs on no node that is away, set the key failsafe to {{}}"
        ))
    }

    /// The lease that has run out was held by another installation of this name, which the members
    /// do not ask about: it leads without the store as long as they promise it not to lead. Who has
    /// given such a promise lately.
    pub(super) fn namesake_lives<'a>(
        &self,
        turn: &Turn<'a>,
        snapshot: &Snapshot,
    ) -> Option<&'a str> {
        let lease =
            snapshot.lease().filter(|lease| lease.is_held() && self.is_me(&lease.holder))?;
        let to_it = |peer: &PeerAnswer| peer.promised.as_ref() == Some(&lease.holder);
        let another = lease.instance != self.settings.instance;
        let mut found = turn.answers().filter(|(_, peer)| another && to_it(peer));
        found.next().map(|(name, _)| name.as_str())
    }

    /// A reachable node that may lead and is better placed than this one. Numbers of timelines are used
    /// twice, terms are not: where all know in which terms theirs began, the latest is the best one.
    pub(super) fn better_peer<'a>(&self, turn: &Turn<'a>) -> Option<(&'a str, Lsn)> {
        let mine = self.my_rank(turn)?;
        let began = turn.obs.local.memory.origins.get(&mine.0).copied();
        let eligible = || turn.answers().filter(|(_, peer)| may_lead(peer));
        let known = began.is_some() && eligible().all(|(_, peer)| peer.timeline_term.is_some());
        let place = |began: Option<Term>, rank| (began.filter(|_| known), rank);
        let of = |(name, peer): &(&'a String, &'a PeerAnswer)| {
            place(peer.timeline_term, rank(name, peer))
        };
        let best = eligible().max_by_key(of)?;
        (of(&best) > place(began, mine)).then_some((best.0.as_str(), best.1.position))
    }
}

pub(super) fn rank<'a>(name: &'a str, peer: &PeerAnswer) -> Rank<'a> {
    (peer.timeline, peer.position, peer.tags.priority(), Reverse(name))
}

/// By its own word or, where it is Patroni and does not say, by its tags and state.
pub(super) fn may_lead(peer: &PeerAnswer) -> bool {
    peer.state == State::Running
        && peer.role == Role::Replica
        && peer.may_lead.unwrap_or_else(|| peer.tags.may_fail_over())
}
