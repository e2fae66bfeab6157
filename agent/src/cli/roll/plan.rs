//! What comes next in a rolling restart: a function of what the members show now, so that anybody can go on
//! from there, and of what this run has done. Pure.

use std::collections::BTreeMap;

use hart_ha::lsn::Timeline;

use super::wish::{Rules, Work};
use crate::cli::version::dotted;

/// One member, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Why it does not answer, or is no member of hart's.
    pub silent: Option<String>,
    /// It is a running primary with the lease.
    pub leads: bool,
    /// Its PostgreSQL runs, and nothing is known to be wrong with it.
    pub running: bool,
    /// It gets WAL from the leader.
    pub streaming: bool,
    /// The timeline that it is on.
    pub timeline: Option<Timeline>,
    /// Bytes that it is behind the leader.
    pub lag: u64,
    /// It is a published synchronous standby.
    pub sync: bool,
    /// It may lead.
    pub may_lead: bool,
    /// Parameters that wait for a restart, as `name old → new`.
    pub pending: BTreeMap<String, String>,
    /// Those of them that a replica must not have lower than its primary, and that are lowered.
    pub lowered: Vec<String>,
    /// PostgreSQL's version (`server_version_num`).
    pub version: Option<u32>,
    /// That of the programs that the next start takes.
    pub installed: Option<u32>,
    /// The agent's version.
    pub agent: String,
    /// That of the binary that was installed over it.
    pub agent_installed: Option<String>,
    /// When PostgreSQL was started.
    pub started: Option<String>,
    /// What is wrong with its settings.
    pub complaint: Option<String>,
}

/// The cluster, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Who has the lease.
    pub leader: Option<String>,
    /// All members, those that are away among them, by name.
    pub members: Vec<Seen>,
    /// The cluster is paused.
    pub paused: bool,
    /// A switchover is asked for or planned.
    pub asked: bool,
    /// So many synchronous standbys there should be; 0 where commits wait for nobody.
    pub sync_wanted: usize,
    /// A replica that is further behind, in bytes, does not count as well.
    pub lag_max: u64,
}

/// What this run has done to members: their complaint before it.
pub type Acted = BTreeMap<String, Option<String>>;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Everything is done.
    Done,
    /// Restart PostgreSQL of this replica.
    Restart(String),
    /// Restart PostgreSQL of the primary where it is.
    RestartLeader(String),
    /// Hand the lead over.
    Switchover {
        /// From whom.
        from: String,
        /// To whom.
        to: String,
    },
    /// Have this member's agent replaced.
    Upgrade(String),
    /// Something is not as it has to be yet.
    Wait {
        /// What.
        why: String,
        /// It is what this run has done that is waited for.
        ours: bool,
    },
    /// It cannot go on.
    Stop {
        /// Why.
        why: String,
        /// What to do.
        remedy: String,
    },
}

fn stop(why: String, remedy: impl Into<String>) -> Next {
    Next::Stop { why, remedy: remedy.into() }
}

impl Picture {
    fn get(&self, name: &str) -> Option<&Seen> {
        self.members.iter().find(|seen| seen.name == name)
    }

    /// What is wrong with a member; `None`: it is well.
    pub fn illness(&self, seen: &Seen) -> Option<String> {
        let name = &seen.name;
        if let Some(why) = &seen.silent {
            return Some(format!("{name} does not answer ({why})"));
        }
        if !seen.running {
            return Some(format!("PostgreSQL of {name} does not run as it should"));
        }
        let leader = self.leader.as_ref().and_then(|leader| self.get(leader));
        if self.leader.as_ref() == Some(name) {
            return (!seen.leads).then(|| format!("{name} has the lease and is no primary yet"));
        }
        if !seen.streaming {
            return Some(format!("{name} does not stream"));
        }
        if leader.is_some_and(|leader| leader.timeline != seen.timeline) {
            return Some(format!("{name} is on another timeline than the leader"));
        }
        (seen.lag > self.lag_max).then(|| {
            let (lag, most) =
                (crate::api::why::size(seen.lag), crate::api::why::size(self.lag_max));
            format!("{name} is {lag} behind (maximum_lag_on_failover is {most})")
        })
    }

    fn well(&self) -> impl Iterator<Item = &Seen> {
        self.members.iter().filter(|seen| self.illness(seen).is_none())
    }

    fn leads(&self, seen: &Seen) -> bool {
        self.leader.as_deref() == Some(seen.name.as_str())
    }
}

/// Has this member something left to be done?
pub fn needs(picture: &Picture, seen: &Seen, work: &Work) -> bool {
    match work {
        Work::Pending => {
            // A replica cannot have less than its primary: that it is to have less is done when the
            // primary has.
            let leader = picture.leader.as_ref().and_then(|leader| picture.get(leader));
            let later = |name: &String| {
                !picture.leads(seen) && leader.is_some_and(|leader| leader.lowered.contains(name))
            };
            seen.pending.keys().any(|name| !later(name))
        }
        Work::Below(version) => seen.version.is_some_and(|runs| runs < *version),
        Work::All(before) => match (before.get(&seen.name), &seen.started) {
            (Some(before), Some(now)) => before == now,
            // One that was not there when it began has been started since.
            _ => false,
        },
        Work::Agents => seen.agent_installed.is_some(),
    }
}

/// What comes next. In this order: what forbids everything, what has to settle first, replicas, the leader.
pub fn next(picture: &Picture, rules: &Rules, acted: &Acted) -> Next {
    let refused = || picture.members.iter().find_map(|seen| refusal(seen, acted));
    if let Some(stop) = forbidden(picture, rules).or_else(refused) {
        return stop;
    }
    if let Some(wait) = unsettled(picture, rules, acted) {
        return wait;
    }
    let todo: Vec<&Seen> =
        picture.well().filter(|seen| needs(picture, seen, &rules.work)).collect();
    if rules.work != Work::Agents
        && let Some(stop) = programs(picture, rules, &todo)
    {
        return stop;
    }
    if let Some(again) = todo.iter().find_map(|seen| again(seen, rules, acted)) {
        return again;
    }
    let leader = todo.iter().find(|seen| picture.leads(seen));
    let replica = todo.iter().filter(|seen| !picture.leads(seen));
    // The synchronous ones last: each of them that goes has another one take its place.
    let replica = replica.min_by_key(|seen| (seen.sync, seen.name.clone()));
    if rules.work == Work::Agents {
        let first = replica.or(leader).map(|seen| Next::Upgrade(seen.name.clone()));
        return first.unwrap_or_else(|| finished(picture, rules));
    }
    let lowered = leader.filter(|seen| rules.work == Work::Pending && !seen.lowered.is_empty());
    match (lowered, replica, leader) {
        (Some(leader), ..) => lower(picture, rules, leader),
        (None, Some(replica), _) => {
            enough(picture, rules, replica).unwrap_or_else(|| Next::Restart(replica.name.clone()))
        }
        (None, None, Some(leader)) => give_way(picture, rules, leader),
        (None, None, None) => finished(picture, rules),
    }
}

fn forbidden(picture: &Picture, rules: &Rules) -> Option<Next> {
    if picture.paused {
        let why = "the cluster is paused: nobody would take over".to_owned();
        return Some(stop(why, "end the maintenance with `hart resume`"));
    }
    let most = picture.members.len().saturating_sub(1);
    if rules.keep.is_some_and(|keep| keep > most) && rules.work != Work::Agents {
        let why = format!(
            "of {} members {} cannot go on while one is restarted",
            picture.members.len(),
            rules.keep.unwrap_or_default()
        );
        return Some(stop(why, format!("give --keep {most}, or less")));
    }
    None
}

/// What is not well yet, or not again.
fn unsettled(picture: &Picture, rules: &Rules, acted: &Acted) -> Option<Next> {
    let wait = |why: String, ours: bool| Some(Next::Wait { why, ours });
    let touched = !acted.is_empty();
    if picture.leader.as_ref().is_none_or(|leader| picture.get(leader).is_none()) {
        return wait("nobody leads".to_owned(), touched);
    }
    if picture.asked {
        return wait("a switchover is asked for, or planned".to_owned(), false);
    }
    let ill = || picture.members.iter().filter_map(|seen| Some((seen, picture.illness(seen)?)));
    if let Some((_, why)) = ill().find(|(seen, _)| acted.contains_key(&seen.name)) {
        return wait(why, true);
    }
    if let Some((_, why)) = ill().find(|(seen, _)| picture.leads(seen)) {
        return wait(why, touched);
    }
    if let Some((_, why)) = ill().next()
        && picture.well().count() <= rules.keep(picture)
    {
        return wait(why, false);
    }
    let synchronous = picture.well().filter(|seen| seen.sync).count();
    (synchronous < picture.sync_wanted).then(|| Next::Wait {
        why: format!("{synchronous} of {} synchronous standbys are there", picture.sync_wanted),
        ours: touched,
    })
}

/// Which PostgreSQL a restart would start.
fn programs(picture: &Picture, rules: &Rules, todo: &[&Seen]) -> Option<Next> {
    if todo.is_empty() {
        return None;
    }
    if let Some(seen) = picture.well().find(|seen| seen.installed.is_none()) {
        let why = format!("{} has not said which PostgreSQL is installed there", seen.name);
        return Some(Next::Wait { why, ours: false });
    }
    let installed = |seen: &Seen| seen.installed.unwrap_or_default();
    if let Work::Below(wanted) = &rules.work
        && let Some(seen) = todo.iter().find(|seen| installed(seen) < *wanted)
    {
        let (name, there) = (&seen.name, dotted(installed(seen)));
        let why = format!("PostgreSQL {} is not installed on {name}: {there} is", dotted(*wanted));
        return Some(stop(
            why,
            format!("install it on {name}; nothing there has to be stopped for it"),
        ));
    }
    let first = picture.well().next()?;
    let other = picture.well().find(|seen| installed(seen) != installed(first));
    let other = other.filter(|_| !rules.mixed)?;
    let each = [first, other].map(|seen| format!("{} on {}", dotted(installed(seen)), seen.name));
    let why = format!("different versions of PostgreSQL are installed: {}", each.join(", "));
    Some(stop(why, "install the same everywhere; or give --mixed, if the members are to differ"))
}

/// A member that this run has dealt with, and that has still something left: it may need a moment to see
/// that; or it did not help.
fn again(seen: &Seen, rules: &Rules, acted: &Acted) -> Option<Next> {
    acted.get(&seen.name)?;
    let name = &seen.name;
    let why = match &rules.work {
        Work::Pending => {
            let left: Vec<&str> = seen.pending.values().map(String::as_str).collect();
            format!("{name} was restarted and still waits for {}", left.join(", "))
        }
        Work::Agents => format!("the agent of {name} was replaced, and a newer one is installed"),
        _ => format!(
            "{name} was restarted, and still runs PostgreSQL {}",
            seen.version.map_or_else(|| "?".to_owned(), dotted)
        ),
    };
    Some(Next::Wait { why, ours: false })
}

/// What PostgreSQL of a member that this run has dealt with was started without, as the member says since.
pub fn refusal(seen: &Seen, acted: &Acted) -> Option<Next> {
    let (name, before) = (&seen.name, acted.get(&seen.name)?);
    let complaint = seen.complaint.as_ref().filter(|_| seen.complaint != *before)?;
    Some(stop(
        format!("PostgreSQL of {name} did not take all of it: {complaint}"),
        format!("take that back with `hart edit-config`; PostgreSQL of {name} runs without it"),
    ))
}

/// Whether so many go on while this one does not; or why it is not touched.
fn enough(picture: &Picture, rules: &Rules, seen: &Seen) -> Option<Next> {
    let (well, keep) = (picture.well().count(), rules.keep(picture));
    (well <= keep).then(|| {
        let why =
            format!("{} is not touched: {well} members are well, and {keep} must go on", seen.name);
        stop(why, "see to the others with `hart why`, or give a lower --keep")
    })
}

/// The replicas are done: the leader becomes one, with which its PostgreSQL is started anew.
fn give_way(picture: &Picture, rules: &Rules, leader: &Seen) -> Next {
    if let Some(stop) = enough(picture, rules, leader) {
        return stop;
    }
    if rules.in_place {
        return Next::RestartLeader(leader.name.clone());
    }
    let done = picture
        .well()
        .filter(|seen| !picture.leads(seen) && seen.may_lead && !needs(picture, seen, &rules.work));
    let fit = done.filter(|seen| seen.sync || picture.sync_wanted == 0);
    match fit.min_by_key(|seen| (!seen.sync, seen.lag, seen.name.clone())) {
        Some(heir) => Next::Switchover { from: leader.name.clone(), to: heir.name.clone() },
        None => stop(
            format!("nobody can take over from {}, which is left", leader.name),
            "see `hart why`; or restart it where it is: --in-place (nobody can write meanwhile)",
        ),
    }
}

fn lower(picture: &Picture, rules: &Rules, leader: &Seen) -> Next {
    if rules.in_place {
        return enough(picture, rules, leader)
            .unwrap_or_else(|| Next::RestartLeader(leader.name.clone()));
    }
    let what: Vec<&str> = leader
        .lowered
        .iter()
        .filter_map(|name| leader.pending.get(name))
        .map(String::as_str)
        .collect();
    stop(
        format!(
            "{}: a replica must not have less than its primary, so that {} has to be restarted first",
            what.join(", "),
            leader.name
        ),
        "give --in-place: the primary is restarted where it is, and nobody can write meanwhile; then the replicas",
    )
}

/// Of those that are not well nobody knows whether they are done.
fn finished(picture: &Picture, rules: &Rules) -> Next {
    let ill: Vec<String> =
        picture.members.iter().filter_map(|seen| picture.illness(seen)).collect();
    if ill.is_empty() {
        return Next::Done;
    }
    let word = rules.work.undone();
    stop(
        format!("all others are done: {}", ill.join("; ")),
        format!("{word} there when it is back"),
    )
}

/// The steps that would be taken, and what ends them, if all of them go well.
pub fn foresee(picture: &Picture, rules: &Rules) -> Vec<Next> {
    let mut picture = picture.clone();
    let mut steps = Vec::new();
    // Each member is dealt with twice at the most.
    for _ in 0..=2 * picture.members.len() {
        let step = next(&picture, rules, &Acted::new());
        let last = !happens(&mut picture, &step);
        steps.push(step);
        if last {
            break;
        }
    }
    steps
}

/// While a synchronous standby is restarted another one takes its place, where there is one, and keeps it.
fn pass_on(picture: &mut Picture, restarted: &str) {
    let leader = picture.leader.clone();
    let is = |seen: &Seen| seen.name == restarted;
    let other =
        |seen: &Seen| !seen.sync && seen.silent.is_none() && Some(&seen.name) != leader.as_ref();
    let from = picture.members.iter().position(|seen| is(seen) && seen.sync);
    let to = picture.members.iter().position(|seen| !is(seen) && other(seen));
    if let (Some(from), Some(to)) = (from, to) {
        (picture.members[from].sync, picture.members[to].sync) = (false, true);
    }
}

/// What the members would show after a step; false where it is none.
fn happens(picture: &mut Picture, step: &Next) -> bool {
    let restarted = match step {
        Next::Restart(name) | Next::RestartLeader(name) => name.clone(),
        Next::Switchover { from, to } => {
            let sync = picture.get(to).is_some_and(|heir| heir.sync);
            picture.leader = Some(to.clone());
            for seen in &mut picture.members {
                seen.leads = seen.name == *to;
                seen.streaming = seen.name != *to;
                seen.sync = if seen.name == *from { sync } else { seen.sync && seen.name != *to };
            }
            from.clone()
        }
        Next::Upgrade(name) => {
            let of = picture.members.iter_mut().filter(|seen| seen.name == *name);
            of.for_each(|seen| {
                seen.agent = seen.agent_installed.take().unwrap_or_default();
            });
            return true;
        }
        Next::Done | Next::Wait { .. } | Next::Stop { .. } => return false,
    };
    if matches!(step, Next::Restart(_)) {
        pass_on(picture, &restarted);
    }
    for seen in picture.members.iter_mut().filter(|seen| seen.name == restarted) {
        seen.pending.clear();
        seen.lowered.clear();
        seen.version = seen.installed;
        seen.started = Some("now".to_owned());
    }
    true
}
