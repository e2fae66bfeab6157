//! What a replica does: have data, be up, follow the leader, and not carry a forked history.

use std::time::Duration;

use super::Brain;
use super::turn::Turn;
use crate::command::{Command, Job};
use crate::kv::{Member, Role, State, Term};
use crate::lsn::{Lsn, Timeline};
use crate::observation::{Control, Data, Sql, Upstream};
use crate::store::Snapshot;
use crate::time::Time;

/// A standby that has not been streaming for so long has its history compared.
const SILENCE: Duration = Duration::from_secs(3);
/// Where the histories agree, the pause before the next comparison doubles, up to four times.
const DOUBLINGS: u32 = 2;

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
        let foreign = self.has_leftover_data(turn, snapshot);
        let anew = turn.obs.asked.reinit && is_ready(member);
        match &turn.obs.local.data {
            Data::Cluster { .. }
                if !foreign && !self.must_clone && !self.wal_is_lost_with(leader) && !anew =>
            {
                self.follow_with_data(turn, snapshot, member, upstream);
            }
            _ if turn.is_running() => turn.begin(Job::Stop, "the data is to be made anew"),
            _ => self.base_backup_from(turn, member, upstream),
        }
    }

    /// A leader without an entry: its session was lost. Whoever runs keeps on following; whoever
    /// does not starts with what it knew.
    fn leader_unknown(&self, turn: &mut Turn<'_>, leader: &str) {
        turn.phase(format!("{leader} leads, its member entry is missing"));
        let has_data = matches!(turn.obs.local.data, Data::Cluster { .. });
        let fit = turn.obs.local.control.as_ref().is_some_and(|control| !control.was_primary);
        if has_data && fit && !turn.is_running() && !self.must_clone {
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

    fn base_backup_from(&self, turn: &mut Turn<'_>, member: &Member, upstream: Upstream) {
        if !is_ready(member) {
            return turn.phase(format!("waiting for {} to be ready to clone from", upstream.name));
        }
        let job = Job::Clone(upstream);
        self.start_when_ready(turn, job, "this node has no usable data");
    }

    fn follow_with_data(
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
        if made_the_same_timeline(control, member) || has_another_of_a_number(turn, member) {
            return self.same_timeline_twice(turn, member, upstream);
        }
        if self.jobs.diverged_from(&upstream) == Some(true) {
            return self.repair(turn, member, upstream);
        }
        if may_follow_at_once(control, member) {
            let job = Job::StartStandby(Some(upstream));
            return self.start_when_ready(turn, job, "there is a leader to follow");
        }
        if control.fresh_backup && member.timeline.is_some() {
            // Nothing is lost with it, and where its WAL forked cannot be told before it ran.
            self.must_clone = true;
            return turn.wake_soon();
        }
        match self.jobs.diverged_from(&upstream) {
            Some(_) => {
                let job = Job::StartStandby(Some(upstream));
                self.start_when_ready(turn, job, "its history contains ours");
            }
            None => self.compare(turn, member, upstream),
        }
    }

    fn compare(&self, turn: &mut Turn<'_>, member: &Member, upstream: Upstream) {
        if !is_ready(member) {
            return turn.phase(format!("waiting for {} to be primary", upstream.name));
        }
        let job = Job::CheckHistory(upstream);
        self.start_when_ready(turn, job, "our history may have forked");
    }

    fn repair(&mut self, turn: &mut Turn<'_>, member: &Member, upstream: Upstream) {
        if turn.config.postgresql.use_pg_rewind {
            let reason = self.why_repair();
            return self.start_when_ready(turn, Job::Rewind(upstream), &reason);
        }
        if self.settings.clone_when_diverged {
            self.must_clone = true;
            return self.base_backup_from(turn, member, upstream);
        }
        turn.phase(format!(
            "{}, and use_pg_rewind is off: run `hart reinit` for this node",
            self.why_repair()
        ));
    }

    fn why_repair(&self) -> String {
        match self.jobs.stuck() {
            Some(words) => format!("PostgreSQL cannot go on with the leader's WAL ({words})"),
            None => "our WAL has what the leader's has not".to_owned(),
        }
    }

    /// `pg_rewind` compares timelines by number and would find nothing to do.
    fn same_timeline_twice(&mut self, turn: &mut Turn<'_>, member: &Member, upstream: Upstream) {
        if turn.config.postgresql.use_pg_rewind || self.settings.clone_when_diverged {
            self.must_clone = true;
            return self.base_backup_from(turn, member, upstream);
        }
        turn.phase(
            "this node and the leader made the same timeline apart from each other: run \
             `hart reinit` for this node",
        );
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
            turn.phase("PostgreSQL is starting");
            return turn.wake_soon();
        };
        self.keep_slots(turn, snapshot, false);
        if turn.obs.local.upstream.as_ref() != Some(&upstream) {
            self.silent_since = None;
            self.jobs.forget_comparison();
            let reason = format!("{} leads", upstream.name);
            return turn.push(Command::Follow(upstream), reason);
        }
        self.follows = self.follows(turn, snapshot, sql, &upstream);
        if has_another_of_a_number(turn, member) {
            let reason = "a timeline here is not the leader's, which has the same number";
            return turn.begin(Job::Stop, reason);
        }
        // An answer from before the server followed another one says nothing of that one's timelines.
        if sql.gets_wal_from(&upstream) {
            self.note_timeline(turn, sql, member);
        }
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
        let Some(silence) = &mut self.silent_since else { return };
        let since = *silence.streams.get_or_insert(turn.now());
        if sql.replay_lsn > silence.replayed || turn.now().since(since) >= SILENCE {
            self.silent_since = None;
            self.jobs.goes_on();
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
        if silence.compared > 0 {
            turn.phase(format!("following {}, which sends nothing", upstream.name));
        }
        let pause = SILENCE * 2_u32.pow(silence.compared.min(DOUBLINGS));
        if turn.now().since(silence.since) < pause {
            return turn.wake_at(silence.since + pause);
        }
        match self.jobs.diverged_from(&upstream) {
            Some(true) => {
                let reason = self.why_repair();
                turn.begin(Job::Stop, reason);
            }
            Some(false) => {
                turn.phase(format!("following {}, which sends nothing", upstream.name));
                let (since, compared) = (turn.now(), silence.compared + 1);
                self.silent_since = Some(Silence { since, compared, ..silence });
                self.jobs.forget_comparison();
            }
            None => self.compare(turn, member, upstream),
        }
    }
}

/// Can it be copied? What a person wants made anew is kept until then: reads go on, and the leader of
/// a quorum may need this node's word before it is promoted.
fn is_ready(leader: &Member) -> bool {
    leader.role == Role::Primary && leader.state == State::Running
}

/// Our WAL of some timeline number began in another term than the leader's of that number.
fn has_another_of_a_number(turn: &Turn<'_>, leader: &Member) -> bool {
    let another = |(timeline, term): (&Timeline, &Term)| {
        leader.timeline_terms.get(timeline).is_some_and(|theirs| theirs != term)
    };
    turn.obs.local.memory.origins.iter().any(another)
}

/// A standby on the leader's timeline cannot have forked from it.
fn may_follow_at_once(control: &Control, leader: &Member) -> bool {
    !control.was_primary && Some(control.timeline) == leader.timeline
}

/// This node wrote its timeline as primary; the leader began its own with a promotion that did
/// not know of it. Then equal numbers are a coincidence, and a lower one is no ancestor.
fn made_the_same_timeline(control: &Control, leader: &Member) -> bool {
    control.was_primary
        && is_ready(leader)
        && leader.timeline.is_some_and(|theirs| theirs <= control.timeline)
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
