//! From two looks at the world to events.

use std::collections::BTreeSet;

use hart_ha::kv::LeaseState;
use serde_json::Value;

use super::away::gone;
use super::entry::{Event, Kind};
use super::sight::Sight;

/// What has happened between the two.
pub(super) fn compare(old: &Sight, new: &Sight) -> Vec<Event> {
    let mut events = Events { new, all: Vec::new() };
    store(old, new, &mut events);
    lease(old, new, &mut events);
    server(old, new, &mut events);
    replication(old, new, &mut events);
    people(old, new, &mut events);
    if words(&old.phase) != words(&new.phase) && !new.phase.is_empty() {
        events.add(Kind::Phase, new.phase.clone());
    }
    events.all
}

struct Events<'a> {
    new: &'a Sight,
    all: Vec<Event>,
}

impl Events<'_> {
    fn add(&mut self, kind: Kind, text: impl Into<String>) -> &mut Event {
        let term = self.new.hold.or(self.new.lease.as_ref().map(|(_, term, _)| *term));
        self.all.push(Event {
            at: self.new.now,
            kind,
            term,
            index: self.new.index,
            about: None,
            text: text.into(),
            data: None,
        });
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    fn note(&mut self, kind: Kind, text: &str) {
        self.add(kind, text);
    }

    fn about(&mut self, kind: Kind, name: Option<String>, text: impl Into<String>) {
        self.add(kind, text).about = name;
    }
}

fn store(old: &Sight, new: &Sight, events: &mut Events<'_>) {
    match (old.reachable, new.reachable) {
        (true, false) => events.note(Kind::ConsulLost, "Consul does not answer"),
        (false, true) if old.store_known => events.note(Kind::ConsulBack, "Consul answers again"),
        _ => {}
    }
    match (&old.session, &new.session) {
        (Some(_), None) => events.note(Kind::Session, "the session in Consul is gone"),
        (a, Some(b)) if a.as_ref() != Some(b) => {
            events.add(Kind::Session, "there is a session in Consul");
        }
        _ => {}
    }
    if old.store_known && new.store_known {
        members(old, new, events);
    }
    if let (Some(Value::Object(before)), Some(Value::Object(now))) = (&old.config, &new.config)
        && before != now
    {
        let what = crate::api::changes(before, now).join("; ");
        events.add(Kind::Config, format!("the shared settings were changed: {what}"));
    }
    if old.sync != new.sync && new.store_known {
        let text = match &new.sync {
            None => "there is no synchronous set any more".to_owned(),
            Some(sync) => {
                let names: Vec<_> = sync.standbys().into_iter().collect();
                let leader = sync.leader.as_deref().unwrap_or("nobody");
                let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                format!("synchronous standbys of {leader}: {names}")
            }
        };
        events.add(Kind::SyncSet, text);
    }
}

fn members(old: &Sight, new: &Sight, events: &mut Events<'_>) {
    for name in new.members.keys().filter(|name| !old.members.contains_key(*name)) {
        let text = format!("{name} is a member of the cluster");
        events.about(Kind::Member, Some(name.clone()), text);
    }
    for (name, last) in old.members.iter().filter(|(name, _)| !new.members.contains_key(*name)) {
        let text = format!("{name} is not a member of the cluster");
        let event = events.add(Kind::Member, text);
        event.about = Some(name.clone());
        event.data = Some(gone(last));
    }
}

fn lease(old: &Sight, new: &Sight, events: &mut Events<'_>) {
    if old.lease != new.lease && new.store_known {
        let (text, about) = match &new.lease {
            None => ("there is no lease any more".to_owned(), None),
            Some((holder, term, LeaseState::Held)) => {
                (format!("{holder} holds the lease of term {term}"), Some(holder.clone()))
            }
            Some((holder, term, LeaseState::Released)) => {
                (format!("{holder} has released the lease of term {term}"), Some(holder.clone()))
            }
        };
        let (at, term) = (new.arrived, new.lease.as_ref().map(|(_, term, _)| *term));
        let event = events.add(Kind::LeaseSeen, text);
        (event.at, event.term, event.about) = (at, term, about);
    }
    if old.hold == new.hold {
        return;
    }
    if let Some(term) = old.hold {
        let event =
            events.add(Kind::LeaseLost, format!("the lease of term {term} is not ours any more"));
        event.term = Some(term);
    }
    if let Some(term) = new.hold {
        events.add(Kind::LeaseGained, format!("the lease of term {term} is ours"));
    }
}

fn server(old: &Sight, new: &Sight, events: &mut Events<'_>) {
    if !old.running && new.running {
        events.add(Kind::ServerStarted, "PostgreSQL runs under its guard");
    }
    // How it has ended is told by the guard's record.
    match (old.in_recovery, new.in_recovery) {
        (None, Some(recovering)) => {
            let role = if recovering { "standby" } else { "primary" };
            events.add(Kind::Answers, format!("PostgreSQL answers as {role}"));
        }
        (Some(_), None) if new.running => {
            events.add(Kind::Silent, "PostgreSQL runs and does not answer");
        }
        (Some(true), Some(false)) => {
            events.add(Kind::Promoted, format!("promoted; the timeline is {}", new.timeline));
        }
        _ => {}
    }
    match (old.writable, new.writable) {
        (false, true) => events.note(Kind::Writable, "writes are possible here"),
        (true, false) => events.note(Kind::ReadOnly, "no writes are possible here any more"),
        _ => {}
    }
}

fn replication(old: &Sight, new: &Sight, events: &mut Events<'_>) {
    let streams = |sight: &Sight| sight.streaming.then(|| (sight.upstream.clone(), sight.timeline));
    match (streams(old), streams(new)) {
        (before, Some(now)) if before.as_ref() != Some(&now) => {
            let from = now.0.as_deref().unwrap_or("an unknown server");
            let text = format!("streams from {from}, timeline {}", now.1);
            events.about(Kind::Streaming, now.0, text);
        }
        (Some((from, _)), None) => {
            let name = from.as_deref().unwrap_or("the primary");
            let text = format!("gets no WAL from {name} any more");
            events.about(Kind::NotStreaming, from, text);
        }
        _ => {}
    }
    if new.in_recovery != Some(false) && old.in_recovery != Some(false) {
        return;
    }
    let gone: BTreeSet<_> = &old.followers - &new.followers;
    for name in &new.followers - &old.followers {
        let text = format!("{name} streams from here");
        events.about(Kind::Follower, Some(name), text);
    }
    for name in gone {
        let text = format!("{name} does not stream from here any more");
        events.about(Kind::FollowerGone, Some(name), text);
    }
}

fn people(old: &Sight, new: &Sight, events: &mut Events<'_>) {
    if old.request != new.request
        && let Some(request) = &new.request
    {
        let what = if request.leader.is_some() { "switchover" } else { "failover" };
        let to = request.member.as_deref().map(|name| format!(" to {name}")).unwrap_or_default();
        let when =
            request.scheduled_at.as_deref().map(|at| format!(" at {at}")).unwrap_or_default();
        let event = events.add(Kind::Request, format!("a {what}{to}{when} was asked for"));
        event.about.clone_from(&request.member);
    }
    if old.refused != new.refused
        && let Some(why) = &new.refused
    {
        events.add(Kind::Refused, format!("the request was refused: {why}"));
    }
    if new.shutdown && !old.shutdown {
        events.add(Kind::AgentEnded, "the agent was asked to stop");
    }
}

/// A text without its numbers: positions in it change at each look.
fn words(text: &str) -> String {
    text.split(' ')
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()) || word.len() < 4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::kv::FailoverRequest;
    use hart_ha::time::Time;

    fn kinds(old: &Sight, new: &Sight) -> Vec<Kind> {
        compare(old, new).into_iter().map(|event| event.kind).collect()
    }

    fn seen() -> Sight {
        Sight {
            now: Time::from_millis(5000),
            arrived: Time::from_millis(4000),
            index: Some(70),
            lease: Some(("n1".into(), 4, LeaseState::Held)),
            store_known: true,
            reachable: true,
            running: true,
            in_recovery: Some(true),
            timeline: 2,
            upstream: Some("n1".into()),
            streaming: true,
            phase: "following n1".into(),
            ..Sight::default()
        }
    }

    #[test]
    fn nothing_new_is_no_event() {
        let later = Sight { now: Time::from_millis(9000), index: Some(80), ..seen() };
        assert_eq!(kinds(&seen(), &later), []);
        let a = Sight { phase: "n2 at 0/3000148 is better placed".into(), ..seen() };
        let b = Sight { phase: "n2 at 0/4000148 is better placed".into(), ..seen() };
        assert_eq!(kinds(&a, &b), []);
    }

    #[test]
    fn a_takeover_is_told_step_by_step() {
        let lease = Some(("n2".to_owned(), 5, LeaseState::Held));
        let taken = Sight { lease, hold: Some(5), streaming: false, ..seen() };
        let events = compare(&seen(), &taken);
        assert_eq!(
            kinds(&seen(), &taken),
            [Kind::LeaseSeen, Kind::LeaseGained, Kind::NotStreaming]
        );
        assert_eq!((events[0].at, events[0].term), (Time::from_millis(4000), Some(5)));
        assert_eq!(events[0].text, "n2 holds the lease of term 5");
        let promoted =
            Sight { in_recovery: Some(false), writable: true, timeline: 3, ..taken.clone() };
        assert_eq!(kinds(&taken, &promoted), [Kind::Promoted, Kind::Writable]);
        let followed = Sight { followers: ["n3".to_owned()].into(), ..promoted.clone() };
        assert_eq!(compare(&promoted, &followed)[0].about.as_deref(), Some("n3"));
    }

    #[test]
    fn a_lost_lease_keeps_its_term() {
        let held = Sight { hold: Some(4), writable: true, in_recovery: Some(false), ..seen() };
        let down = Sight {
            hold: None,
            writable: false,
            running: false,
            in_recovery: None,
            ..held.clone()
        };
        let events = compare(&held, &down);
        let lost = events.iter().find(|event| event.kind == Kind::LeaseLost).unwrap();
        assert_eq!(lost.term, Some(4));
        assert!(events.iter().any(|event| event.kind == Kind::ReadOnly));
    }

    #[test]
    fn a_change_of_the_settings_says_which() {
        let with = |ttl: u64| Sight { config: Some(serde_json::json!({"ttl": ttl})), ..seen() };
        let events = compare(&with(3), &with(5));
        assert_eq!(events[0].text, "the shared settings were changed: ttl: 3 → 5");
        assert_eq!(kinds(&with(3), &with(3)), []);
    }

    #[test]
    fn a_member_that_goes_leaves_what_its_entry_said() {
        let entered =
            super::super::sight::Entered { state: "running".into(), ..Default::default() };
        let both = Sight { members: [("n3".to_owned(), entered)].into(), ..seen() };
        let events = compare(&both, &seen());
        assert_eq!((events[0].kind, events[0].about.as_deref()), (Kind::Member, Some("n3")));
        assert_eq!(events[0].data.as_ref().unwrap()["state"], "running");
        assert_eq!(compare(&seen(), &both)[0].data, None);
    }

    #[test]
    fn consul_and_people_are_noted() {
        let away = Sight { reachable: false, session: None, ..seen() };
        let before = Sight { session: Some("s".into()), ..seen() };
        assert_eq!(kinds(&before, &away), [Kind::ConsulLost, Kind::Session]);
        assert_eq!(kinds(&away, &before), [Kind::ConsulBack, Kind::Session]);
        let member = Some("n3".to_owned());
        let request =
            FailoverRequest { leader: Some("n1".into()), member, scheduled_at: None, fenced: None };
        let asked = Sight { request: Some(request), ..seen() };
        assert_eq!(compare(&seen(), &asked)[0].text, "a switchover to n3 was asked for");
    }
}
