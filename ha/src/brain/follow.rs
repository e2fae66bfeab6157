//! What a replica does: have data, be up, follow the leader, and not carry a forked history.

use std::time::Duration;

use super::Brain;
use super::jobs::Found;
use super::lead::STARTS_MAX;
use super::turn::Turn;
use crate::command::{Command, Job};
use crate::kv::{Member, Role, State, SynchronousMode};
use crate::lsn::{Lsn, Timeline};
use crate::observation::{Control, Data, Sql, Upstream};
use crate::store::Snapshot;
use crate::time::Time;

/// A standby that has not been streaming for so long has its history compared.
const SILENCE: Duration = Duration::from_secs(3);
/// Where the histories agree, the pause before the next comparison doubles, up to four times.
const DOUBLINGS: u32 = 2;

/// What a comparison has found.
pub(super) const OURS: &str = "our WAL has what the leader's has not";
/// What a running server lets suspect.
const SUSPECTED: &str = "our WAL may have what the leader's has not; it is compared again at rest";
/// The setting that allows a copy then.
const DIVERGED: &str = "remove_data_directory_on_diverged_timelines";

/// A standby does not stream, or has only just begun to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// Since when, or when histories were compared last.
    since: Time,
    /// How often they were.
    compared: u32,
    /// What was replayed when it began.
    replayed: Lsn,
    /// Since when it has been streaming again. WAL that does not fit ends the stream at once: only
    /// one that lasts, or that is replayed, counts.
    streams: Option<Time>,
}

impl Brain {
    pub(super) fn follow(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, leader: &str) {
        turn.phase(format!("following {leader}"));
        if let Some(running) = &turn.obs.job {
            return turn.phase(format!("following {leader}; {}", running.job.name()));
        }
        if self.is_me(leader) {
            return turn.phase("another installation of this name leads");
        }
        let Some((member, upstream)) = leader_address(snapshot, leader) else {
            return self.leader_unknown(turn, leader);
        };
        if self.must_clone.as_ref().is_some_and(|given| given.leader != leader) {
            // It may fit this one.
            self.must_clone = None;
        }
        self.doubt_entry(turn, member, &upstream);
        let leftover = self.has_leftover_data(turn, snapshot);
        match &turn.obs.local.data {
            Data::Cluster { .. } if leftover => {
                self.copy_over(
                    turn,
                    member,
                    upstream,
                    "what is here is left of a bootstrap that came to nothing",
                );
            }
            Data::Cluster { .. } => match self.why_anew(turn, member, &upstream) {
                Some(why) => self.replace(turn, snapshot, member, upstream, &why),
                None => self.follow_with_data(turn, snapshot, member, upstream),
            },
            _ => self.copy_over(turn, member, upstream, "this node has no usable data"),
        }
    }

    /// A leader without an entry: its session was lost. Whoever runs keeps on following; whoever
    /// does not starts with what it knew.
    fn leader_unknown(&self, turn: &mut Turn<'_>, leader: &str) {
        turn.phase(format!("{leader} leads, its member entry is missing"));
        self.tell_of_open(turn);
        let has_data = matches!(turn.obs.local.data, Data::Cluster { .. });
        let fit = turn.obs.local.control.as_ref().is_some_and(|control| !control.was_primary);
        if has_data && fit && !turn.is_running() && self.must_clone.is_none() {
            let job = Job::StartStandby(turn.obs.local.upstream.clone());
            self.start_when_ready(turn, job, "reads go on");
        }
    }

    /// Data of our own bootstrap that came to nothing, because another node was first.
    fn has_leftover_data(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let Data::Cluster { system_id } = &turn.obs.local.data else { return false };
        let other = snapshot.initialize.as_ref().is_some_and(|i| i.value != *system_id);
        turn.is_leftover() || turn.is_of_our_making() && other
    }

    pub(super) fn follow_with_data(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        member: &Member,
        upstream: Upstream,
    ) {
        if turn.is_running() {
            return self.follow_running(turn, snapshot, member, upstream);
        }
        let Some(control) = &turn.obs.local.control else {
            turn.phase("reading the control file");
            return turn.wake_soon();
        };
        if let Some(proof) = self.twin_by_entry(turn, control, member, &upstream) {
            self.is_twin(turn, &upstream.name, proof);
            if let Some(given) = &mut self.must_clone {
                given.by_entry = true;
            }
            return;
        }
        if control.fresh_backup {
            return self.start_backup(turn, upstream);
        }
        match self.jobs.found(&upstream).cloned() {
            Some(Found::Diverged) => self.repair(turn, snapshot, upstream),
            Some(Found::Twin(proof)) => self.is_twin(turn, &upstream.name, proof),
            Some(Found::Contained | Found::WalGone(_)) => {
                let job = Job::StartStandby(Some(upstream));
                self.start_when_ready(turn, job, "its history contains ours");
            }
            None if self.jobs.is_suspected(&upstream) && is_ready(member) => {
                self.compare(turn, member, upstream);
            }
            None if may_follow_at_once(turn, control, member) => {
                let job = Job::StartStandby(Some(upstream));
                self.start_when_ready(turn, job, "there is a leader to follow");
            }
            None => self.compare(turn, member, upstream),
        }
    }

    /// What the numbers and terms in the leader's entry prove of timelines of one number.
    pub(super) fn twin_by_entry(
        &self,
        turn: &Turn<'_>,
        control: &Control,
        leader: &Member,
        upstream: &Upstream,
    ) -> Option<String> {
        // A comparison that found where the two part knows more than the numbers tell, also when a repair that
        // begins has had what was known of the timelines forgotten.
        let parts = matches!(self.jobs.found(upstream), Some(Found::Diverged));
        let collide = || made_the_same_timeline(turn, control, leader).filter(|_| !parts);
        another_of_a_number(turn, leader).or_else(collide)
    }

    /// It never ran; whether its WAL has forked is seen when it does. Where it does not even start,
    /// nothing is lost with it.
    fn start_backup(&mut self, turn: &mut Turn<'_>, upstream: Upstream) {
        let name = upstream.name.clone();
        let job = Job::StartStandby(Some(upstream));
        let failed = self.jobs.failed(&job);
        if failed < STARTS_MAX || self.jobs.no_copy_helps() {
            return self.start_when_ready(turn, job, "there is a leader to follow");
        }
        let error = self.jobs.error(&job).unwrap_or("no error");
        let proof = format!("a base backup that never ran failed to start {failed} times: {error}");
        self.give_data_up(turn, &name, proof);
        self.never_ran = true;
    }

    fn compare(&self, turn: &mut Turn<'_>, member: &Member, upstream: Upstream) {
        if !is_ready(member) {
            return turn.phase(format!("waiting for {} to be primary", upstream.name));
        }
        let job = Job::CheckHistory(upstream);
        self.start_when_ready(turn, job, "our history may have forked");
    }

    /// Our WAL has what the leader's has not, compared on a server at rest.
    fn repair(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, upstream: Upstream) {
        let name = upstream.name.clone();
        if self.keeps_what_is_published(turn, snapshot, &name) {
            return;
        }
        if turn.config.postgresql.use_pg_rewind {
            let job = Job::Rewind(upstream);
            if let Some((count, error)) = self.jobs.rewind_fails(&job) {
                turn.problem(format!(
                    "pg_rewind from {name} has failed {count} times: {error}; the data is kept, and it \
                     is tried again: remove what it complains of, or run `hart reinit` for this node"
                ));
            }
            return self.start_when_ready(turn, job, OURS);
        }
        if self.settings.clone_when_diverged {
            let proof = format!("{OURS}, and use_pg_rewind is off");
            return self.give_data_up(turn, &name, proof);
        }
        turn.keep(format!("{OURS}, and use_pg_rewind is off"), DIVERGED);
    }

    /// `pg_rewind` compares timelines by number and would find nothing to do, or the wrong thing.
    fn is_twin(&mut self, turn: &mut Turn<'_>, leader: &str, proof: String) {
        if self.settings.clone_when_diverged {
            return self.give_data_up(turn, leader, proof);
        }
        turn.keep(format!("this node cannot follow {leader}: {proof}"), DIVERGED);
    }

    /// What is streamed from the leader began when the leader's timelines did.
    fn note_timeline(&self, turn: &mut Turn<'_>, sql: &Sql, leader: &Member) {
        let theirs = &leader.timeline_terms;
        let same = leader.timeline == Some(sql.timeline) && theirs.contains_key(&sql.timeline);
        if sql.streaming && same && turn.obs.local.memory.origins != *theirs {
            turn.push(Command::Origins(theirs.clone()), "");
        }
    }

    fn follow_running(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        member: &Member,
        upstream: Upstream,
    ) {
        if self.wal_is_gone(turn, member, &upstream) {
            return;
        }
        let Some(sql) = &turn.obs.local.sql else {
            turn.phase_of_silence();
            return turn.wake_soon();
        };
        self.keep_slots(turn, snapshot, false);
        rest_names(turn, sql);
        if let Some(proof) = another_of_a_number(turn, member) {
            return self.suspects(turn, &upstream.name, &proof);
        }
        if turn.obs.local.upstream.as_ref() != Some(&upstream) {
            if !self.may_turn_to(turn, sql, member, &upstream) {
                return;
            }
            self.silent_since = None;
            self.jobs.forget_before(turn.now());
            let reason = format!("{} leads", upstream.name);
            return turn.push(Command::Follow(upstream), reason);
        }
        self.follows = self.follows(turn, snapshot, sql, &upstream);
        // An answer from before the server followed another one says nothing of that one's timelines.
        if sql.gets_wal_from(&upstream) {
            self.note_timeline(turn, sql, member);
        }
        self.note_whole(turn, snapshot, sql, (member, &upstream));
        if turn.obs.asked.restart {
            return turn.begin(Job::Restart, "asked for");
        }
        if sql.streaming {
            return self.streaming(turn, sql);
        }
        let begun =
            Silence { since: turn.now(), compared: 0, replayed: sql.replay_lsn, streams: None };
        let silence = self.silent_since.get_or_insert(begun);
        silence.streams = None;
        let silence = *silence;
        self.not_streaming(turn, member, upstream, silence);
    }

    fn streaming(&mut self, turn: &mut Turn<'_>, sql: &Sql) {
        // What was found before holds no longer.
        self.jobs.forget_comparison();
        if std::mem::take(&mut self.never_ran) {
            self.must_clone = None;
        }
        let Some(silence) = &mut self.silent_since else { return };
        let since = *silence.streams.get_or_insert(turn.now());
        if sql.replay_lsn > silence.replayed || turn.now().since(since) >= SILENCE {
            self.silent_since = None;
        } else {
            turn.wake_at(since + SILENCE);
        }
    }

    fn not_streaming(
        &mut self,
        turn: &mut Turn<'_>,
        member: &Member,
        upstream: Upstream,
        silence: Silence,
    ) {
        let rests = turn.obs.local.sql.as_ref().and_then(|sql| sql.rests);
        let nothing = match rests {
            Some(rests) => {
                format!("following {}, from which nothing comes: {rests}", upstream.name)
            }
            None => format!("following {}, which sends nothing", upstream.name),
        };
        if silence.compared > 0 || rests.is_some() {
            turn.phase(nothing.clone());
        }
        let pause = SILENCE * 2_u32.pow(silence.compared.min(DOUBLINGS));
        if turn.now().since(silence.since) < pause {
            return turn.wake_at(silence.since + pause);
        }
        match self.jobs.found(&upstream).cloned() {
            Some(Found::Diverged) if self.may_repair(turn) => turn.begin(Job::Stop, SUSPECTED),
            Some(Found::Diverged) => turn.keep(OURS, DIVERGED),
            Some(Found::Twin(proof)) => self.suspects(turn, &upstream.name, &proof),
            Some(Found::Contained | Found::WalGone(_)) => {
                turn.phase(nothing);
                let (since, compared) = (turn.now(), silence.compared + 1);
                self.silent_since = Some(Silence { since, compared, ..silence });
                self.jobs.forget_comparison();
            }
            None => self.compare(turn, member, upstream),
        }
    }

    fn may_repair(&self, turn: &Turn<'_>) -> bool {
        turn.config.postgresql.use_pg_rewind || self.settings.clone_when_diverged
    }

    /// A running server has another timeline of a number than the leader. It must not get anything
    /// from there: that would be written over its own WAL.
    fn suspects(&self, turn: &mut Turn<'_>, leader: &str, proof: &str) {
        let connected = turn.obs.local.upstream.as_ref().is_some_and(|u| u.name == leader);
        if connected || self.settings.clone_when_diverged {
            return turn.begin(Job::Stop, format!("{proof}; it is compared again at rest"));
        }
        turn.keep(format!("this node does not turn to {leader}: {proof}"), DIVERGED);
    }

    /// May the server be connected to another one? Who has the number of its timeline, and not its
    /// timeline, would send it WAL that is written over its own. One that has only a lower number is
    /// about to make this one anew.
    fn may_turn_to(
        &self,
        turn: &mut Turn<'_>,
        sql: &Sql,
        member: &Member,
        upstream: &Upstream,
    ) -> bool {
        let name = &upstream.name;
        let here = sql.timeline;
        let fits = match member.timeline {
            Some(theirs) if theirs > here => true,
            Some(theirs) if theirs == here => !is_ready(member) || is_the_same(turn, member, here),
            _ => false,
        };
        if fits {
            return true;
        }
        match self.jobs.found_lately(upstream, turn.now()).cloned() {
            Some(Found::Contained | Found::WalGone(_)) => return true,
            Some(Found::Diverged) if self.may_repair(turn) => turn.begin(Job::Stop, SUSPECTED),
            Some(Found::Diverged) => turn.keep(OURS, DIVERGED),
            Some(Found::Twin(proof)) => self.suspects(turn, name, &proof),
            None if is_ready(member) => self.compare(turn, member, upstream.clone()),
            None => turn.phase(format!(
                "this node is on timeline {here}; waiting for {name} to say on which it goes on"
            )),
        }
        false
    }
}

/// In synchronous mode a standby that somebody promotes by hand must acknowledge nothing: nobody waits
/// for its standbys' words, and the leader's own names are no business of its.
fn rest_names(turn: &mut Turn<'_>, sql: &Sql) {
    let nobody = turn.config.synchronous_mode != SynchronousMode::Off;
    if sql.in_recovery && sql.waits != nobody {
        let reason = "what is promoted past hart must acknowledge nothing in synchronous mode";
        turn.push(Command::RestNames { nobody }, reason);
    }
}

/// Can it be copied? What a person wants made anew is kept until then: reads go on, and the leader of
/// a quorum may need this node's word before it is promoted.
pub(super) fn is_ready(leader: &Member) -> bool {
    leader.role == Role::Primary && leader.state == State::Running
}

/// Our WAL of some timeline number began in another term than the leader's of that number.
fn another_of_a_number(turn: &Turn<'_>, leader: &Member) -> Option<String> {
    let another = turn.obs.local.memory.origins.iter().find_map(|(timeline, term)| {
        let theirs = leader.timeline_terms.get(timeline).filter(|theirs| *theirs != term)?;
        Some((timeline, term, theirs))
    });
    another.map(|(timeline, ours, theirs)| {
        format!(
            "timeline {timeline} here began in term {ours}, and the leader's of that number in term \
             {theirs}"
        )
    })
}

/// The leader's timeline of this number is known to be ours.
fn is_the_same(turn: &Turn<'_>, leader: &Member, timeline: Timeline) -> bool {
    let ours = turn.obs.local.memory.origins.get(&timeline);
    ours.is_some() && ours == leader.timeline_terms.get(&timeline)
}

/// A standby on the leader's timeline cannot have forked from it. That it is the same one only their
/// terms tell; as long as the leader is not primary there is nothing to compare with, and it goes on
/// to a new timeline.
fn may_follow_at_once(turn: &Turn<'_>, control: &Control, leader: &Member) -> bool {
    let same = Some(control.timeline) == leader.timeline;
    same && !control.was_primary
        && (!is_ready(leader) || is_the_same(turn, leader, control.timeline))
}

/// This node wrote its timeline as primary; the leader began its own with a promotion that did
/// not know of it. Then equal numbers are a coincidence, and a lower one is no ancestor. But where the
/// leader's lower one is known to be ours, ours began there: it was promoted past hart, and is rewound.
fn made_the_same_timeline(turn: &Turn<'_>, control: &Control, leader: &Member) -> Option<String> {
    let theirs = leader.timeline.filter(|theirs| *theirs <= control.timeline)?;
    if theirs < control.timeline && is_the_same(turn, leader, theirs) {
        return None;
    }
    (control.was_primary && is_ready(leader)).then(|| {
        format!(
            "this node wrote timeline {} as primary, and the leader, which is on timeline {theirs}, \
             began its own without it",
            control.timeline
        )
    })
}

fn leader_address<'a>(snapshot: &'a Snapshot, leader: &str) -> Option<(&'a Member, Upstream)> {
    let member = snapshot.member(leader)?;
    let (host, port) = host_and_port(&member.conn_url)?;
    Some((member, Upstream { name: leader.to_owned(), host, port }))
}

/// Host and port of `postgres://[user@]host:port/db`; brackets around an IPv6 address are removed.
#[must_use]
pub fn host_and_port(url: &str) -> Option<(String, u16)> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let address = authority.rsplit('@').next()?;
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().ok()?)
        }
        _ => (address, 5432),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}
