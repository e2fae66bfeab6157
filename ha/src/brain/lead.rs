//! What the holder of the lease does: bring PostgreSQL up as primary, and keep the cluster's keys.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Brain;
use super::crash::AfterCrash;
use super::planned::keep_plan;
use super::race::named_candidate;
use super::turn::Turn;
use crate::command::{Command, Job, Write};
use crate::keeper::{Hold, Payload};
use crate::kv::{FailoverRequest, HistoryEntry, State, SynchronousMode, Term};
use crate::observation::{Data, Process, Sql};
use crate::store::{Snapshot, Versioned};

/// A promotion that shows no effect is asked for again after this time.
const PROMOTE_AGAIN: Duration = Duration::from_secs(5);
/// The origins of so many timelines are kept: a node further behind is compared by the numbers.
const ORIGINS_MAX: usize = 32;
/// So many failed starts in a row make another node the faster way.
pub(super) const STARTS_MAX: u32 = 3;

impl Brain {
    pub(super) fn lead(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, hold: Hold) {
        self.silent_since = None;
        self.leads_with_what_it_has(hold);
        if turn.is_leftover() {
            return self.lead_nothing(turn);
        }
        if turn.obs.local.memory.term < hold.term {
            return self.notes_term(turn, hold);
        }
        if self.is_not_shown(turn, snapshot, hold) {
            return;
        }
        self.carry(turn, snapshot);
        if let Some(running) = &turn.obs.job {
            turn.phase(format!("leading; {}", running.job.name()));
            if matches!(running.job, Job::Checkpoint) && self.is_sick_for_long(turn) {
                turn.push(Command::Abort, "a sick disk does not get done with a checkpoint");
            }
            return;
        }
        if self.gives_up_sick(turn, snapshot, hold)
            || self.leads_names_back(turn, snapshot)
            || self.handing_over(turn, snapshot)
        {
            return;
        }
        if !turn.is_running() {
            return self.lead_down(turn, snapshot, hold);
        }
        self.unreadable_since = None;
        match &turn.obs.local.sql {
            None => self.lead_starting(turn),
            Some(sql) if sql.in_recovery => self.promote(turn, snapshot, hold),
            Some(sql) => self.lead_primary(turn, snapshot, sql, hold),
        }
        if let Some(name) = self.stranger(snapshot) {
            turn.problem(format!("{name} is not run by hart: see docs/patroni.md"));
        }
        if let Some(problem) = turn.found_problem().map(str::to_owned) {
            let doing = if turn.is_replica() { "promoting" } else { "leading" };
            turn.phase(format!("{doing}; {problem}"));
        }
    }

    /// PostgreSQL is gone: the lease goes back.
    /// Nothing is done in a reign before its term is on the disk. A disk that does not take it must not
    /// keep the others from leading: the agent would renew for ever.
    fn notes_term(&mut self, turn: &mut Turn<'_>, hold: Hold) {
        let since = self.noting.filter(|(term, _)| *term == hold.term).map(|(_, since)| since);
        let since = since.unwrap_or(turn.now());
        self.noting = Some((hold.term, since));
        let due = since + turn.config.ttl / 2;
        let why = turn.obs.local.forgetful.clone();
        let harmless = !turn.is_running() || turn.is_replica();
        if harmless && (why.is_some() || turn.now() >= due) && turn.obs.job.is_none() {
            let why = why.unwrap_or_else(|| "the state directory's disk is too slow".to_owned());
            turn.phase("giving the lease up");
            return self.release(turn, format!("the new term cannot be noted: {why}"));
        }
        turn.phase("noting the new term");
        turn.wake_at(due);
        let reason = "the term must outlive a wiped store";
        turn.push(Command::Remember { term: hold.term }, reason);
    }

    pub(super) fn release(&mut self, turn: &mut Turn<'_>, reason: String) {
        self.note_given_up(turn, Command::Release);
        match turn.obs.lease.hold.filter(|_| self.former_until(turn).is_some()) {
            // Whoever sees a lease that is given up concludes that nobody writes.
            Some(Hold { term, .. }) => {
                self.abandoned = Some(term);
                turn.push(Command::Abandon { term }, reason);
            }
            None => turn.push(Command::Release, reason),
        }
    }

    pub(super) fn note_given_up(&mut self, turn: &Turn<'_>, how: Command) {
        self.given_up = turn.obs.lease.hold.map(|hold| (hold.term, turn.now(), how));
    }

    pub(super) fn is_given_up(&self, term: Term) -> bool {
        self.given_up.as_ref().is_some_and(|(given_up, ..)| *given_up == term)
    }

    /// The keeper may have been busy. A hand-over that does not come through becomes a release; and what
    /// is given up is not renewed for as long as it takes, for the look that has to come first may hang on
    /// a disk: this reign is over in any case.
    pub(super) fn give_up_again(&mut self, turn: &mut Turn<'_>) {
        let Some((term, since, how)) = self.given_up.clone() else { return };
        turn.phase("giving the lease up");
        turn.wake_soon();
        let late = turn.now().since(since) > turn.config.ttl / 2;
        if late {
            self.abandoned = Some(term);
            let reason =
                "it has been given up, and who works in the data directory is not known yet";
            turn.push(Command::Abandon { term }, reason);
        }
        let command = if late { Command::Release } else { how };
        if !turn.is_primary() && self.former_until(turn).is_none() {
            turn.push(command, "");
        }
    }

    fn carry(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let Some(status) = &snapshot.status else { return };
        let local = &turn.obs.local;
        let position = local.sql.as_ref().filter(|sql| !sql.in_recovery).map(|sql| sql.write_lsn);
        let term = turn.obs.lease.hold.map(|hold| hold.term);
        self.wrote = position.and_then(|lsn| Some((term?, lsn))).or(self.wrote);
        // Where it has stopped what it had written in this reign counts, also when no renewal has said so yet.
        let written = self.wrote.filter(|(reign, _)| Some(*reign) == term).map(|(_, lsn)| lsn);
        let payload = Payload {
            // A former leader's position may lie beyond this one's: what was written there is no lag now.
            optime: written.or(status.value.optime),
            slots: local.slots.clone(),
            retain_slots: self.slots.retained(),
            other: status.value.other.clone(),
        };
        turn.push(Command::Carry(payload), "");
    }

    fn lead_down(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, hold: Hold) {
        self.note_ended_promotion(turn, hold);
        let given_up = self.data_is_given_up(turn, snapshot);
        if !matches!(turn.obs.local.data, Data::Cluster { .. }) || given_up {
            turn.phase("giving the lease up");
            return self.release(turn, "there is no data directory to lead with".to_owned());
        }
        let Some(control) = &turn.obs.local.control else {
            return self.without_control_file(turn, snapshot);
        };
        self.unreadable_since = None;
        match self.after_crash(turn, snapshot, control) {
            AfterCrash::Starts => {}
            AfterCrash::Asks => return turn.phase("PostgreSQL has crashed: asking who may lead"),
            AfterCrash::GivesUp => {
                turn.phase("giving the lease up");
                let reason =
                    "PostgreSQL has crashed, primary_start_timeout is 0, and another node may lead";
                return self.release(turn, reason.to_owned());
            }
        }
        let job = if control.was_primary {
            let Some(sync) = self.first_waits(turn, snapshot) else {
                turn.wake_soon();
                return turn.phase("making sure of the published synchronous set");
            };
            // Whoever was promoted by hand before its turn has taken nothing over: as a standby it is
            // promoted by all the rules.
            let early = self.sync_is_anothers(turn, snapshot);
            if early {
                Job::StartStandby(None)
            } else {
                self.reign = Some(hold.term);
                Job::StartPrimary { hold, sync }
            }
        } else {
            Job::StartStandby(None)
        };
        if self.jobs.failed(&job) >= STARTS_MAX && self.somebody_may_lead(turn, snapshot) {
            turn.phase("giving the lease up");
            let error = self.jobs.error(&job).unwrap_or("no error").to_owned();
            return self.release(turn, format!("PostgreSQL does not start: {error}"));
        }
        self.start_when_ready(turn, job, "this node holds the lease");
    }

    /// It is read anew at every look. A disk that does not give it for a whole ttl will not give it
    /// soon: somebody else is the faster way.
    fn without_control_file(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        turn.phase("reading the control file");
        turn.wake_soon();
        let since = *self.unreadable_since.get_or_insert(turn.now());
        if turn.now().since(since) < turn.config.ttl || !self.somebody_may_lead(turn, snapshot) {
            return;
        }
        self.unreadable_since = None;
        turn.phase("giving the lease up");
        self.release(turn, "pg_control cannot be read, so PostgreSQL cannot be started".to_owned());
    }

    pub(super) fn start_when_ready(&self, turn: &mut Turn<'_>, job: Job, reason: &str) {
        let ready = self.jobs.ready_at(&job);
        if turn.now() < ready {
            let error = self.jobs.error(&job).unwrap_or_default();
            if self.jobs.failed(&job) >= STARTS_MAX {
                turn.problem(format!("{} keeps failing: {error}", job.name()));
            }
            turn.phase(format!("{} failed, trying again: {error}", job.name()));
            return turn.wake_at(ready);
        }
        turn.phase(job.name());
        turn.begin(job, reason);
    }

    /// By the entries; in synchronous mode only those that are published.
    fn somebody_may_lead(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let sync = snapshot.sync.as_ref().filter(|_| on).map(|sync| &sync.value);
        let named = |name: &str| sync.is_none_or(|sync| sync.leader.is_none() || sync.names(name));
        snapshot.members.iter().any(|(name, member)| {
            !self.is_me(name)
                && named(name)
                && member.value.state == State::Running
                && member.value.tags.may_fail_over()
        })
    }

    fn lead_starting(&mut self, turn: &mut Turn<'_>) {
        turn.phase_of_silence();
        turn.wake_soon();
        let Process::Running { since } = turn.obs.local.process else { return };
        let since = since.max(self.sick.last_answer());
        // Nothing starts in no time: what 0 means is decided before the start.
        let patience = match turn.config.primary_start_timeout {
            Duration::ZERO => turn.config.ttl,
            patience => patience,
        };
        let too_long = turn.now().since(since) > patience;
        let snapshot = turn.obs.store.snapshot.as_ref();
        // In a pause nobody would take over: it may take its time.
        let too_long = too_long && !turn.config.pause;
        if too_long && snapshot.is_some_and(|snapshot| self.somebody_may_lead(turn, snapshot)) {
            let reason = "PostgreSQL did not start within primary_start_timeout";
            self.jobs.start_failed(STARTS_MAX, turn.now(), reason);
            turn.push(Command::Fence, reason);
        }
    }

    fn promote(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, hold: Hold) {
        turn.phase("promoting");
        turn.wake_soon();
        self.keep_slots(turn, snapshot, false);
        if turn.obs.local.armed.is_none_or(|armed| armed.term != hold.term) {
            return turn.phase("waiting for the guard to be armed");
        }
        if !snapshot.lease().is_some_and(|lease| self.is_mine(lease) && lease.term == hold.term) {
            // What was set and published before the takeover must be known: this picture may be older.
            return turn.phase("waiting for Consul to show the takeover");
        }
        if self.is_outside_sync(turn, snapshot) {
            // The takeover compared only the lease; the set may have changed since it was decided.
            if self.promoting.is_some() {
                return turn.push(Command::Fence, "promoting, but not in the synchronous set");
            }
            return self.release(turn, "not in the published synchronous set".to_owned());
        }
        if !self.quorum_agrees(turn, snapshot, hold) {
            return;
        }
        // A cluster that is not complete is nobody else's yet, and the key would be taken for another's.
        if !turn.obs.local.memory.bootstrapping && !self.sync_is_mine(turn, snapshot) {
            return turn.phase("taking over the synchronous set");
        }
        if let Some(waits) = self.promotion_waits_for(turn) {
            turn.phase(format!("promoting; {waits}"));
        }
        let asked = self.promoting.filter(|(term, _)| *term == hold.term);
        if asked.is_some() {
            self.end_what_holds_up(turn, hold);
        }
        if asked.is_some_and(|(_, at)| turn.now().since(at) < PROMOTE_AGAIN) {
            return;
        }
        let Some(sql) = &turn.obs.local.sql else { return };
        if !self.may_be_promoted(turn, sql, hold) {
            return;
        }
        self.promoting = Some((hold.term, turn.now()));
        self.reign = Some(hold.term);
        turn.push(Command::Promote, format!("this node holds the lease of term {}", hold.term));
    }

    /// In synchronous mode the winner enters itself before it is promoted: from then on only it
    /// and the standbys that it names may lead.
    fn sync_is_mine(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) -> bool {
        let current = snapshot.sync.as_ref();
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        // What this node published in an earlier reign names standbys that PostgreSQL, having been a
        // standby itself since, does not wait for.
        let mine_alone = current.is_some_and(|sync| {
            let leader = sync.value.leader.as_deref();
            leader.is_some_and(|name| self.is_me(name)) && sync.value.standbys().is_empty()
        });
        let at = current.map_or(0, |sync| sync.index);
        if (!on && current.is_none()) || mine_alone && !self.may_change(at) {
            return true;
        }
        let write = Write::Sync { standbys: BTreeSet::new(), quorum: 0, at };
        turn.push(Command::Write(write), "before the promotion: nobody else may lead after it");
        false
    }

    /// The synchronous set is still that of another primary.
    fn sync_is_anothers(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let on = turn.config.synchronous_mode != SynchronousMode::Off;
        let leader = snapshot.sync.as_ref().and_then(|sync| sync.value.leader.as_deref());
        on && !turn.obs.local.memory.bootstrapping && leader.is_some_and(|name| !self.is_me(name))
    }

    /// Has PostgreSQL become primary by hart, or is the synchronous set ours? Somebody may promote past
    /// hart the very node that has just taken the lease, and is still asking the voters. It has taken
    /// nothing over then; as a standby it is promoted by all the rules.
    fn is_rightful(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, hold: Hold) -> bool {
        if self.reign == Some(hold.term) {
            return true;
        }
        if !snapshot.lease().is_some_and(|lease| self.is_mine(lease) && lease.term == hold.term) {
            turn.phase("waiting for Consul to show the takeover");
            return false;
        }
        if self.sync_is_anothers(turn, snapshot) {
            turn.phase("fencing PostgreSQL");
            let reason =
                "PostgreSQL was promoted past hart, before the synchronous set was taken over";
            turn.problem(reason);
            turn.push(Command::Fence, reason);
            return false;
        }
        self.reign = Some(hold.term);
        true
    }

    /// For the simulator, which must notice: whoever is primary became so by hart.
    #[doc(hidden)]
    pub fn believe_in_reign(&mut self, hold: Option<Hold>) {
        self.reign = hold.map(|hold| hold.term);
    }

    fn lead_primary(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql, hold: Hold) {
        if !self.is_rightful(turn, snapshot, hold) {
            return;
        }
        turn.phase("leading");
        // With one in progress the lease rests on promises for a moment only.
        if self.switch.is_none() {
            self.resume_poolers(turn, "this node goes on leading");
        }
        self.note_own_timeline(turn, sql);
        if turn.obs.local.memory.restored {
            turn.push(Command::Whole, "it leads: what it has is the cluster's data");
        }
        if self.promoting.take().is_some() {
            turn.push(Command::Checkpoint, "old primaries are rewound from the new timeline");
        }
        if turn.obs.local.memory.bootstrapping {
            return self.finish_bootstrap(turn, snapshot);
        }
        self.keep_identity(turn, snapshot);
        self.keep_history(turn, snapshot, sql);
        self.keep_failsafe(turn, snapshot, sql, hold);
        self.keep_slots(turn, snapshot, true);
        self.clear_fulfilled_request(turn, snapshot);
        keep_plan(turn, snapshot);
        self.keep_sync(turn, snapshot, sql);
        if turn.obs.asked.restart {
            turn.begin(Job::Restart, "asked for");
        }
    }

    /// Only a timeline that surely began with this reign is noted: a wrong note would make every
    /// replica's data worthless.
    fn note_own_timeline(&self, turn: &mut Turn<'_>, sql: &Sql) {
        let memory = &turn.obs.local.memory;
        let Some(hold) = turn.obs.lease.hold else { return };
        let promoted = self.promoting.is_some_and(|(term, _)| term == hold.term);
        let newest = memory.origins.last_key_value().map(|(timeline, _)| *timeline);
        let older = newest.is_some_and(|timeline| timeline < sql.timeline);
        let known = memory.origins.contains_key(&sql.timeline);
        if !known && (promoted || older || memory.bootstrapping) {
            let mut origins = memory.origins.clone();
            origins.insert(sql.timeline, hold.term);
            while origins.len() > ORIGINS_MAX {
                origins.pop_first();
            }
            turn.push(Command::Origins(origins), "the timeline began in this term");
        }
    }

    /// Does the key name this cluster, and outlive every session?
    pub(super) fn initialize_is_right(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> bool {
        let Data::Cluster { system_id } = &turn.obs.local.data else { return true };
        let right = |id: &Versioned<String>| id.value == *system_id && id.session.is_none();
        snapshot.initialize.as_ref().is_some_and(right)
    }

    pub(super) fn keep_identity(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        if snapshot.config.is_none() {
            turn.push(Command::Write(Write::Config), "the cluster has no settings in Consul");
        }
        if let Data::Cluster { system_id } = &turn.obs.local.data
            && !self.initialize_is_right(turn, snapshot)
        {
            let write = Write::Initialize(system_id.clone());
            turn.push(Command::Write(write), "initialize does not name this cluster");
        }
    }

    fn keep_history(&self, turn: &mut Turn<'_>, snapshot: &Snapshot, sql: &Sql) {
        let local = &turn.obs.local.history;
        let stored = snapshot.history.as_ref().map_or(&[][..], |history| &history.value);
        let known = local.iter().filter(|(timeline, ..)| *timeline < sql.timeline);
        if known.clone().map(|(tl, lsn, _)| (*tl, *lsn)).eq(stored.iter().map(|e| (e.0, e.1))) {
            return;
        }
        let entry = |(timeline, end, reason): &(_, _, String)| {
            let old = stored.iter().find(|entry| (entry.0, entry.1) == (*timeline, *end));
            let new = || {
                let name = self.settings.name.clone();
                HistoryEntry(*timeline, *end, reason.clone(), String::new(), name)
            };
            old.cloned().unwrap_or_else(new)
        };
        let history: Vec<_> = known.map(entry).collect();
        if !history.is_empty() {
            turn.push(Command::Write(Write::History(history)), "a timeline has ended");
        }
    }

    /// The request that made this node lead, or one meant for a leader of the past. What is planned stays
    /// until it is due: the leader that it names may lead again by then.
    fn clear_fulfilled_request(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let now =
            |r: &&Versioned<FailoverRequest>| !r.value.is_empty() && r.value.scheduled_at.is_none();
        let Some(request) = snapshot.failover.as_ref().filter(now) else { return };
        let reached = named_candidate(snapshot).is_some_and(|name| self.is_me(name));
        let past = request.value.leader.as_deref().is_some_and(|leader| !self.is_me(leader));
        if reached || past {
            turn.push(Command::Write(Write::ClearFailover(request.index)), "it is done");
        }
    }
}
