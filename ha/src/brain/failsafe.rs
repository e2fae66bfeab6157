//! Failsafe mode: who may be promised what while the store is silent.
//!
//! The key `failsafe` names every member that may take the lease, with its REST address. The
//! keeper may go on without the store while all of them promise to leave the lease alone
//! ([`crate::keeper::Pact`]). For this to be safe, nobody outside the pact may be on any version
//! of the list that a challenger can rest a takeover on. So:
//! - the pact holds the names of the list as it is stored, of the list as it is wanted, and of
//!   every list of ours that may come true yet;
//! - a new list is sent only when the keeper has taken a pact with all its names over;
//! - a name leaves the pact only after a renewal was stored later than the list without it: a
//!   challenger compares the version of `status`, so it has seen this list or a newer one;
//! - lists are written only under the lock, so that no former leader's list comes late.
//!
//! Two members with one address cannot both be asked: with them there is no pact, and that is said
//! before it is needed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Brain;
use super::follow::host_and_port;
use super::turn::Turn;
use crate::command::{Command, Write};
use crate::keeper::{Addressee, Hold, Pact};
use crate::kv::{Failsafe, Role, Term};
use crate::observation::Sql;
use crate::store::{Index, Snapshot};

/// What the brain keeps of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreement {
    pact: Option<Pact>,
    number: u64,
    /// The names in lists that were to replace this version: each of them may come true yet.
    sent: Option<(Index, Failsafe)>,
    seen: Option<Failsafe>,
    /// The version of the list for which a renewal was hurried.
    hurried: Option<Index>,
}

impl Agreement {
    pub(super) fn see(&mut self, snapshot: &Snapshot) {
        let stored = snapshot.failsafe.as_ref().map(|failsafe| &failsafe.value);
        if let Some(stored) = stored.filter(|stored| self.seen.as_ref() != Some(stored)) {
            self.seen = Some(stored.clone());
        }
    }

    /// The list that was stored last, for a store that has lost it.
    pub(super) fn last_seen(&self) -> Option<&Failsafe> {
        self.seen.as_ref()
    }
}

impl Brain {
    /// Keeps the list, and the keeper's pact, as the members are.
    pub(super) fn keep_failsafe(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        hold: Hold,
    ) {
        if turn.obs.lease.by_promises {
            return turn.phase("leading without Consul: all members agree (failsafe)");
        }
        let wanted = if turn.config.failsafe_mode {
            self.wanted_list(snapshot, sql)
        } else {
            Failsafe::new()
        };
        self.settle(turn, snapshot, hold.term);
        self.agree(turn, snapshot, &wanted, hold);
        let index = snapshot.failsafe.as_ref().map_or(0, |failsafe| failsafe.index);
        let stored = snapshot.failsafe.as_ref().map(|failsafe| &failsafe.value);
        let is_right = stored.map_or(wanted.is_empty(), |stored| *stored == wanted);
        if !is_right && self.is_agreed(turn) {
            let sent = self.agreement.sent.take().filter(|(at, _)| *at == index);
            let names = sent.into_iter().flat_map(|(_, names)| names).chain(wanted.clone());
            self.agreement.sent = Some((index, names.collect()));
            let write = Write::Failsafe { list: wanted, at: index };
            turn.push(Command::Write(write), "the members have changed");
        }
    }

    /// There is no pact before a renewal was stored later than the list. Consul may be gone by the time at
    /// which one is due.
    fn settle(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, term: Term) {
        let Some(list) = snapshot.failsafe.as_ref().filter(|_| turn.config.failsafe_mode) else {
            return;
        };
        let settled = list.value.is_empty() || is_settled(snapshot, &self.settings, term);
        if !settled && self.agreement.hurried.replace(list.index) != Some(list.index) {
            turn.push(Command::Renew, "");
        }
    }

    /// A member whose entry blinks stays on the list while it streams.
    fn wanted_list(&self, snapshot: &Snapshot, sql: &Sql) -> Failsafe {
        let listed = snapshot.failsafe.iter().flat_map(|failsafe| &failsafe.value);
        let streams = |name: &str| sql.standbys.iter().any(|row| row.name == name && row.streaming);
        let stay = listed.filter(|(name, _)| self.is_me(name) || streams(name));
        let mut list: Failsafe = stay.map(|(name, url)| (name.clone(), url.clone())).collect();
        for (name, member) in &snapshot.members {
            if member.value.role != Role::Uninitialized {
                list.insert(name.clone(), member.value.api_url.clone());
            }
        }
        // Its own entry may blink, too; and who leads must be able to take its lease again.
        list.insert(self.settings.name.clone(), self.settings.api_url.clone());
        list
    }

    /// Brings the pact up to date with everybody who may take the lease, now or soon.
    fn agree(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, wanted: &Failsafe, hold: Hold) {
        let members = self.may_take(snapshot, wanted, hold.term);
        let on = turn.config.failsafe_mode && !self.share_an_address(turn, &members);
        let usable = on && is_settled(snapshot, &self.settings, hold.term);
        let at = snapshot.status_index();
        let listed = snapshot.failsafe.is_some() && on;
        let of_this_reign = |pact: &&Pact| listed && pact.term == hold.term;
        let former = self.agreement.pact.as_ref().filter(of_this_reign);
        // One that the keeper does not take may rest on a picture that is too old.
        let taken = |former: &Pact| turn.obs.lease.pact == former.number || former.at == at;
        let pact = match former {
            Some(former) if former.members == members && taken(former) => Some(former.clone()),
            // Once there is a pact in this reign, it stays one as the list changes.
            former if usable || former.is_some() => {
                self.agreement.number += 1;
                Some(Pact { number: self.agreement.number, term: hold.term, at, members })
            }
            _ => None,
        };
        let number = pact.as_ref().map_or(0, |pact| pact.number);
        self.agreement.pact.clone_from(&pact);
        if turn.obs.lease.pact != number {
            turn.push(Command::Pact(pact), "");
            turn.wake_soon();
        }
    }

    /// Everybody but this node who is, was lately, or will be on the list.
    fn may_take(
        &self,
        snapshot: &Snapshot,
        wanted: &Failsafe,
        term: Term,
    ) -> BTreeMap<String, Addressee> {
        let mut members = BTreeMap::new();
        let pact = self.agreement.pact.as_ref().filter(|pact| pact.term == term);
        let former = pact.map(|pact| pact.members.clone()).unwrap_or_default();
        // An entry that has gone is remembered: who comes in its place has another identity.
        let entry = |name: &String| snapshot.member(name).map(|member| member.instance.clone());
        let before = |name: &String| former.get(name)?.instance.clone();
        let instance = |name: &String| {
            entry(name).filter(|instance| !instance.is_empty()).or_else(|| before(name))
        };
        if !is_settled(snapshot, &self.settings, term) {
            members.extend(former.clone());
        }
        let index = snapshot.failsafe.as_ref().map_or(0, |failsafe| failsafe.index);
        let sent = self.agreement.sent.iter().filter(|(at, _)| *at == index);
        let stored = snapshot.failsafe.iter().map(|failsafe| &failsafe.value);
        for list in sent.map(|(_, list)| list).chain(stored).chain([wanted]) {
            let ask = |(name, url): (&String, &String)| {
                (name.clone(), Addressee { url: url.clone(), instance: instance(name) })
            };
            members.extend(list.iter().map(ask));
        }
        members.remove(&self.settings.name);
        members
    }

    /// Do two of these, or one of them and this node, have one REST address?
    fn share_an_address(&self, turn: &mut Turn<'_>, members: &BTreeMap<String, Addressee>) -> bool {
        let mine = (&self.settings.name, &self.settings.api_url);
        let mut seen = BTreeMap::new();
        let all = members.iter().map(|(name, it)| (name, &it.url)).chain([mine]);
        let twice = all.into_iter().find_map(|(name, url)| {
            let other: &String = seen.insert(rest_address(url)?, name)?;
            Some((other.min(name), other.max(name), url))
        });
        let Some((one, other, url)) = twice.filter(|_| turn.config.failsafe_mode) else {
            return false;
        };
        turn.warn(format!(
            "no failsafe: {one} and {other} have one REST address, {url}, and each must be asked at its \
             own; correct restapi.connect_address on one of them"
        ));
        true
    }

    /// The keeper, and the guard's deadline, rest on the present pact.
    fn is_agreed(&self, turn: &Turn<'_>) -> bool {
        let number = self.agreement.pact.as_ref().map_or(0, |pact| pact.number);
        let (hold, armed) = (turn.obs.lease.hold, turn.obs.local.armed);
        let cut = armed.zip(hold).is_none_or(|(armed, hold)| armed.deadline <= hold.deadline);
        turn.obs.lease.pact == number && cut
    }
}

/// Host and port of a REST address, in one spelling for each.
#[must_use]
pub fn rest_address(url: &str) -> Option<(String, u16)> {
    let (host, port) = host_and_port(url)?;
    let host = host.trim_end_matches('.').to_lowercase();
    let address = host.parse::<IpAddr>();
    Some((address.map_or(host, |address| address.to_canonical().to_string()), port))
}

/// Was `status` written by this reign after the list? Then whoever can take this lease has seen
/// the list, or a newer one.
fn is_settled(snapshot: &Snapshot, settings: &super::Settings, term: Term) -> bool {
    let lease = snapshot.lease();
    let mine =
        lease.is_some_and(|l| l.term == term && l.is_held_by(&settings.name, &settings.instance));
    let list = snapshot.failsafe.as_ref().filter(|failsafe| !failsafe.value.is_empty());
    mine && list.is_some_and(|list| list.index < snapshot.status_index())
}
