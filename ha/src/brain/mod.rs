//! The decisions. [`Brain::step`] is called whenever something may have changed; it looks at the
//! whole picture each time (level-triggered), so a missed or repeated event does no harm.
//!
//! | file | decides |
//! |---|---|
//! | `fencing` | must PostgreSQL be killed now? |
//! | `maintenance` | what a pause leaves alone |
//! | `watch` | since when has the lease been seen unchanged? |
//! | `eligible` | may this node lead, and is a peer better placed? |
//! | `race` | taking over, taking back |
//! | `revoke` | taking the lease of a silent holder before it is over |
//! | `beside` | who goes by the lock and not by the lease |
//! | `bootstrap` | who begins a new cluster, and who gives way |
//! | `lead` | what the holder does |
//! | `failsafe` | whose word lets it go on without the store |
//! | `switchover` | handing the lease over: asked for, or because the agent stops |
//! | `poolers` | pausing PgBouncers for a planned change |
//! | `sync` | who is a synchronous standby, and when that may be published |
//! | `follow` | what a replica does |
//! | `anew` | a replica whose data is to be thrown away and copied anew |
//! | `restore` | a copy from a backup while nobody leads |
//! | `wal_gone` | a replica whose next WAL nobody has any more |
//! | `promotion` | promotions that end PostgreSQL |
//! | `crash` | a primary that has crashed and is not to be started again |
//! | `hearing` | signs of life of a holder that renews seldom, for revocation |
//! | `held_up` | sessions that a promotion waits for |
//! | `sick` | a primary that runs and does not work |
//! | `unkillable` | one that is to end and does not |
//! | `overridden` | settings that are hart's own, changed past it |
//! | `slots` | whose replication slots are kept, and whose are dropped |
//! | `publish` | what the node says of itself |

mod anew;
mod beside;
mod bootstrap;
mod crash;
mod eligible;
mod failsafe;
#[cfg(test)]
mod failsafe_tests;
mod fencing;
mod follow;
mod hearing;
mod held_up;
mod jobs;
mod lead;
mod maintenance;
mod overridden;
mod patience;
mod planned;
mod poolers;
mod promotion;
mod publish;
mod race;
mod restore;
mod revoke;
mod sick;
mod slots;
mod switchover;
mod sync;
#[cfg(test)]
mod tests;
mod touch;
mod turn;
mod unkillable;
mod wal_gone;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use eligible::{Refusal, Verdict};
pub use failsafe::rest_address;
pub use follow::host_and_port;
pub use publish::LAYOUT_VERSION;
pub use turn::{Decision, Step};

use crate::command::{Command, Exit};
use crate::kv::{DynamicConfig, Lease, Member, Tags, Term};
use crate::lsn::Lsn;
use crate::observation::{Data, Observation, SyncProof};
use crate::store::{Index, Snapshot};
use crate::time::Time;
use jobs::JobLog;
use turn::Turn;
use watch::LeaseWatch;

/// Steps further apart than this, while Consul answers, mean that the process slept. Nobody's entry
/// vanishes in less.
const SLEPT: Duration = Duration::from_secs(6);

/// In the reason of a takeover from a holder that has not renewed.
pub const RUN_OUT: &str = "has run out";

/// In the reason of a takeover from a holder whose time is not over.
pub const REVOKED: &str = "is revoked";

/// What the brain is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Member name.
    pub name: String,
    /// Random identity of this installation.
    pub instance: String,
    /// This node's tags in force: what makes it unfit for a while (a veto, a missing watchdog) is in them.
    pub tags: Tags,
    /// Its file lets it lead.
    pub ever_leads: bool,
    /// `bootstrap.dcs`: what counts until the store has a `config`.
    pub bootstrap: DynamicConfig,
    /// `postgres://host:port/postgres`, for the member entry.
    pub conn_url: String,
    /// `http://host:port/patroni`, for the member entry.
    pub api_url: String,
    /// A rewind that fails is followed by a base backup.
    pub clone_after_failed_rewind: bool,
    /// A diverged node that may not be rewound is cloned anew.
    pub clone_when_diverged: bool,
    /// A replica whose next WAL is nowhere to be had is cloned anew.
    pub clone_when_wal_is_gone: bool,
    /// There is a `restore_command`, which may bring what the leader has not got any more.
    pub archive: bool,
    /// One of the ways to make a replica needs no leader.
    pub restores_alone: bool,
    /// How long it may take to pause the PgBouncers of this host; zero: there are none.
    pub pause: Duration,
    /// Drawn anew for each run of the agent: each reign's beats begin so far behind the last one seen.
    /// A request of an earlier run that is still under way can thus not be taken for one of this run.
    pub beats: u64,
}

/// The state that the brain keeps between steps. All of it can be lost: it is gathered again.
#[derive(Clone, Debug)]
pub struct Brain {
    settings: Settings,
    watch: LeaseWatch,
    jobs: JobLog,
    /// REST addresses of all members seen, for peers whose entries have vanished.
    addresses: BTreeMap<String, String>,
    /// The shared settings as last seen.
    config: Option<Arc<DynamicConfig>>,
    /// The picture in which they were looked at last.
    config_of: Option<Arc<Snapshot>>,
    /// What people have done to PostgreSQL in a pause.
    hands: maintenance::Hands,
    promoting: Option<(Term, Time)>,
    /// The promotions of this reign.
    attempts: promotion::Attempts,
    /// When a reign was given up because PostgreSQL ended in its promotion.
    ended_promotion: Option<Time>,
    /// The simulator switches a rule off.
    promotes_below: bool,
    /// The same: a comparison of timelines is waited for.
    waits_to_compare: bool,
    /// In which PostgreSQL here became primary by hart.
    reign: Option<Term>,
    published: Option<(Member, Time)>,
    slots: slots::Slots,
    switch: Option<switchover::Switch>,
    /// Poolers that this node had paused.
    pausing: Option<poolers::Pausing>,
    /// The reign that was given up last, when, and how: it is never led again, though keeper and
    /// watch may show it for a moment longer.
    given_up: Option<(Term, Time, Command)>,
    /// The reign that is not prolonged any more, because PostgreSQL cannot be ended.
    abandoned: Option<Term>,
    /// Since when Consul has answered without a break; `None` while it does not.
    answers_since: Option<Time>,
    /// Whether the failsafe list that was seen last is the last one there was.
    touch: touch::Touch,
    /// When the last step was.
    stepped: Option<Time>,
    /// With better placed nodes, when the lease is free.
    patience: patience::Patience,
    /// The last attempt to take the lease: the version it rested on, and when.
    acquired: Option<(Index, Time)>,
    /// Names in writes of `sync` that rest on this version and may come true yet.
    sync_sent: Option<(Index, BTreeSet<String>)>,
    /// Whether the version of `sync` that is seen may be an old one, or others' writes rest on it.
    sync_doubt: sync::Doubt,
    /// When settings that were overridden were last put in force again.
    taken_back: Option<Time>,
    /// What was proved, where other names are in force.
    void_proof: Option<SyncProof>,
    /// The latest term and beat of the lease in a picture in which `sync` was this node's.
    sync_beat: Option<(Term, u64)>,
    /// Since when this node, as the holder, waits for the word of the quorum.
    voting: sync::Voting,
    /// When the lease was given back because too few voters followed, and who could have led since.
    unheard: Option<(Time, BTreeSet<String>)>,
    /// Of a replica: the term whose leader is the only one that it gets WAL from.
    follows: Option<Term>,
    /// Of a standby: what it knows of a holder that is silent.
    suspicion: revoke::Suspicion,
    /// How far this node had written as primary, and in which reign.
    wrote: Option<(Term, Lsn)>,
    /// Since when the term of this reign waits for the disk.
    noting: Option<(Term, Time)>,
    /// Where a replica stands that says that its WAL is gone, and since when.
    stands: Option<(Lsn, Time)>,
    hearing: hearing::Hearing,
    /// The lease of this node was taken by another one before it was over.
    deposed: bool,
    /// Whether standbys confirm what is written.
    confirmations: sync::Confirmations,
    /// Whether published standbys are yet to connect again.
    comeback: sync::Comeback,
    /// How long this node has been sick as the holder, and whether it gives up.
    sick: sick::Sickness,
    /// Sessions that a promotion waited for, and that were ended.
    held_up: held_up::Ended,
    /// Who has to agree before the lease goes on without the store.
    agreement: failsafe::Agreement,
    /// Why the last request for a switchover or failover was given up.
    refused: Option<String>,
    /// The request that was refused last. It may be seen for a while yet, and is not taken up again.
    turned_down: Option<Index>,
    /// The simulator switches a rule off.
    believes_backups: bool,
    /// PostgreSQL of the holder has crashed: whose answers are older do not count.
    crash_asked: Option<Time>,
    /// When the lease was given up for others because of that.
    crashed: Option<Time>,
    /// The standby does not stream.
    silent_since: Option<follow::Silence>,
    /// Since when the holder has not been able to read the control file.
    unreadable_since: Option<Time>,
    /// The roles of a new cluster are complete.
    roles_done: bool,
    /// The data directory must be made anew.
    must_clone: Option<anew::GivenUp>,
    /// The proof is that a base backup does not start.
    never_ran: bool,
    /// This node wants its data copied anew.
    to_be_copied: bool,
    /// Since when Consul has shown so.
    copy_said: Option<Time>,
    /// It begins as soon as Consul shows that it does.
    copy_begins: bool,
}

/// What a server does that is up, and of no use to the agent.
const REFUSES: &str = "PostgreSQL runs, but does not let hart in";

impl Brain {
    /// A brain that has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            watch: LeaseWatch::default(),
            jobs: JobLog::default(),
            addresses: BTreeMap::new(),
            config: None,
            config_of: None,
            hands: maintenance::Hands::default(),
            promoting: None,
            attempts: promotion::Attempts::default(),
            ended_promotion: None,
            promotes_below: false,
            waits_to_compare: false,
            reign: None,
            published: None,
            slots: slots::Slots::default(),
            switch: None,
            pausing: None,
            given_up: None,
            abandoned: None,
            answers_since: None,
            touch: touch::Touch::default(),
            stepped: None,
            patience: patience::Patience::default(),
            acquired: None,
            sync_sent: None,
            sync_doubt: sync::Doubt::default(),
            taken_back: None,
            void_proof: None,
            sync_beat: None,
            voting: None,
            unheard: None,
            follows: None,
            suspicion: revoke::Suspicion::default(),
            wrote: None,
            noting: None,
            stands: None,
            hearing: hearing::Hearing::default(),
            deposed: false,
            confirmations: sync::Confirmations::default(),
            comeback: sync::Comeback::default(),
            sick: sick::Sickness::default(),
            held_up: held_up::Ended::default(),
            agreement: failsafe::Agreement::default(),
            refused: None,
            turned_down: None,
            believes_backups: false,
            crash_asked: None,
            crashed: None,
            silent_since: None,
            unreadable_since: None,
            roles_done: false,
            must_clone: None,
            never_ran: false,
            to_be_copied: false,
            copy_said: None,
            copy_begins: false,
        }
    }

    /// New tags, after the configuration was read again.
    pub fn set_tags(&mut self, tags: Tags) {
        self.settings.tags = tags;
    }

    /// The same of whether its file lets it lead.
    pub fn set_ever_leads(&mut self, ever: bool) {
        self.settings.ever_leads = ever;
    }

    /// One look at the world: what is to be done, and why.
    pub fn step(&mut self, observation: &Observation) -> Step {
        self.void_proof = sync::void_proof(observation).cloned();
        self.deposed = self.is_deposed(observation);
        if self.void_proof.is_none() && !self.deposed {
            return self.look(observation);
        }
        let mut without = observation.clone();
        if self.void_proof.is_some() {
            without.local.waits_for = None;
        }
        if self.deposed {
            without.lease.hold = None;
        }
        self.look(&without)
    }

    /// A lease of a term that cannot be is no lease.
    fn look(&mut self, observation: &Observation) -> Step {
        let Some(term) = self.leaps(observation).map(|lease| lease.term) else {
            return self.step_readable(observation, None);
        };
        let mut readable = observation.clone();
        let status = readable.store.snapshot.as_mut().map(Arc::make_mut);
        if let Some(status) = status.and_then(|snapshot| snapshot.status.as_mut()) {
            status.value.lease = None;
        }
        let problem = format!(
            "the key status in Consul names a lease of term {term}, which cannot be: it is ignored, and \
             written anew; find out who writes there"
        );
        self.step_readable(&readable, Some(problem))
    }

    fn step_readable(&mut self, observation: &Observation, problem: Option<String>) -> Step {
        self.learn(observation);
        let config = self.config(observation);
        let mut turn = Turn::new(observation, config);
        let misled = observation.local.misled.clone();
        problem.into_iter().chain(misled).for_each(|problem| turn.warn(problem));
        self.follows = None;
        self.note_hands(&turn);
        // What was said holds while the job that it led to runs.
        self.to_be_copied &= observation.job.is_some();
        if let Some(why) = &observation.local.refused {
            turn.problem(format!("{REFUSES}: {why}"));
        }
        match observation.store.snapshot.as_ref() {
            Some(snapshot) => {
                self.decide(&mut turn, snapshot);
                self.tell_of_voters(&mut turn);
            }
            None => self.decide_blind(&mut turn),
        }
        if !self.to_be_copied {
            (self.copy_said, self.copy_begins) = (None, false);
        }
        self.note_fence(turn.ends_postgres(), &turn);
        let open = self.is_to_be_open(&turn);
        let member = self.entry(&turn);
        let term = self.watch.term().max(observation.local.memory.term);
        let refused = self.refused.clone();
        let revocable = self.is_to_be_revocable(&turn);
        let heard = self.heard_of(&turn);
        Step { follows: self.follows, heard, open, revocable, ..turn.finish(member, term, refused) }
    }

    /// The stored settings; those last seen, where the store has lost them; before that the file's.
    fn config(&mut self, observation: &Observation) -> Arc<DynamicConfig> {
        let snapshot = observation.store.snapshot.as_ref();
        let looked = self.config_of.as_ref().zip(snapshot).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
        if let Some(snapshot) = snapshot.filter(|_| !looked) {
            self.config_of = Some(snapshot.clone());
            let stored = snapshot.config.as_ref().map(|stored| &stored.value);
            if let Some(stored) = stored.filter(|s| self.config.as_deref() != Some(s)) {
                self.config = Some(Arc::new(stored.clone()));
            }
        }
        let known = self.config.clone();
        known.unwrap_or_else(|| Arc::new(self.settings.bootstrap.clone()))
    }

    fn learn(&mut self, observation: &Observation) {
        // The lease thread may have done it, while this loop stood still.
        self.abandoned = self.abandoned.max(observation.lease.abandoned);
        self.jobs.learn(observation);
        for finished in &observation.finished {
            self.after_job(finished, observation.local.memory.term);
        }
        self.patience.step(observation.now);
        self.note_began(observation.now);
        self.note_hearing(observation);
        self.note_standing(observation);
        if observation.local.sql.is_none() {
            self.comeback.goes_away();
        }
        let now = observation.now;
        // While Consul answers, each answer wakes the loop.
        let slept = self.stepped.replace(now).is_some_and(|last| now.since(last) > SLEPT);
        if slept && self.answers_since.take().is_some() {
            self.touch.sleep(now);
        }
        let answered_before = self.answers_since.unwrap_or(now);
        self.answers_since = observation.store.reachable.then_some(answered_before);
        let Some(snapshot) = &observation.store.snapshot else { return };
        let store = &observation.store;
        self.touch.see(snapshot, store.arrived, store.reachable);
        self.watch.see(snapshot.lease(), snapshot.status_index(), observation.store.arrived);
        self.agreement.see(snapshot);
        let sent = observation.lease.hold.map(|hold| (hold.term, observation.lease.beat));
        self.note_sync(snapshot, sent);
        self.note_addresses(observation, snapshot);
    }

    /// For the simulator, which must notice: the failsafe list that is known is the last one.
    #[doc(hidden)]
    pub fn believe_in_touch(&mut self) {
        self.touch.keep();
    }

    /// By the word of others first, so that the entries in the store count most.
    fn note_addresses(&mut self, observation: &Observation, snapshot: &Snapshot) {
        let answers = observation.peers.values().filter_map(|probe| probe.answer.as_ref());
        let heard = answers.flat_map(|answer| &answer.failsafe);
        for (name, url) in observation.local.memory.failsafe.iter().chain(heard) {
            self.addresses.entry(name.clone()).or_insert_with(|| url.clone());
        }
        let listed = snapshot.failsafe.iter().flat_map(|failsafe| &failsafe.value);
        let entries = snapshot.members.iter().map(|(name, entry)| (name, &entry.value.api_url));
        for (name, url) in listed.chain(entries).filter(|(_, url)| !url.is_empty()) {
            if self.addresses.get(name) != Some(url) {
                self.addresses.insert(name.clone(), url.clone());
            }
        }
    }

    /// Consul has not answered yet since this agent began.
    fn decide_blind(&mut self, turn: &mut Turn<'_>) {
        turn.phase("waiting for Consul");
        if self.ends_stray(turn) || self.fence_blind(turn) {
            return;
        }
        if turn.obs.shutdown {
            self.stop_blind(turn);
        }
    }

    fn decide(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        turn.verdict = self.verdict(turn, snapshot);
        self.leaves_it_to_others(turn, snapshot);
        self.leaves_promotion_to_others(turn, snapshot);
        self.note_term(turn, snapshot);
        note_list(turn, snapshot);
        self.note_rival(turn, snapshot);
        let hold = turn.obs.lease.hold.filter(|hold| turn.now() < hold.deadline);
        if hold.is_some_and(|hold| self.abandons(turn, hold)) {
            return self.publish(turn, snapshot);
        }
        self.tell_of_kill(turn);
        if self.ends_stray(turn) || self.must_fence(turn, snapshot) {
            return self.publish(turn, snapshot);
        }
        if turn.obs.local.data == Data::Unknown {
            return turn.phase("looking at the data directory");
        }
        if snapshot.config_unreadable && self.config.is_none() {
            return turn.phase("the cluster's settings in Consul cannot be read");
        }
        if let Some(refusal) = self.foreign_data(turn, snapshot) {
            if self.refuses_data(turn, snapshot, refusal) {
                return;
            }
        } else if self.maintains(turn, snapshot, hold) {
            return self.publish(turn, snapshot);
        }
        match (hold, turn.obs.shutdown) {
            (Some(hold), _) if self.is_given_up(hold.term) => self.give_up_again(turn),
            (Some(hold), _) => self.lead(turn, snapshot, hold),
            (None, true) => self.stop_replica(turn, snapshot),
            (None, false) => self.not_leading(turn, snapshot),
        }
        self.take_settings_back(turn);
        self.note_lax_commits(turn);
        self.publish(turn, snapshot);
    }

    /// The data directory belongs to another cluster: nothing here may touch it.
    fn foreign_data(&self, turn: &Turn<'_>, snapshot: &Snapshot) -> Option<String> {
        let Data::Cluster { system_id } = &turn.obs.local.data else { return None };
        let expected = &snapshot.initialize.as_ref()?.value;
        let foreign = !expected.is_empty() && expected != system_id;
        (foreign && !turn.is_of_our_making() && turn.obs.lease.hold.is_none()).then(|| {
            format!(
                "the data directory has system identifier {system_id}, the cluster in Consul has \
                 {expected}: this is another cluster's data; check scope and data_dir, or move the \
                 directory away to clone the cluster anew"
            )
        })
    }

    /// In a pause people may be about to change what is here, or what the key `initialize` says. True:
    /// nothing else is to be done in this step.
    fn refuses_data(&mut self, turn: &mut Turn<'_>, snapshot: &Snapshot, refusal: String) -> bool {
        if !turn.config.pause {
            turn.push(Command::Exit(Exit::Refused(refusal.clone())), refusal);
            return true;
        }
        turn.warn(format!(
            "{refusal}. In the pause this node goes on, and does nothing with the data; when the pause \
             ends its agent ends. After a major upgrade by hand remove the key initialize, and restart \
             who is to lead"
        ));
        if turn.obs.asked.reinit && !turn.obs.shutdown {
            return false;
        }
        turn.phase("paused: the data directory is another cluster's");
        if turn.obs.shutdown {
            self.stop_replica(turn, snapshot);
        }
        self.publish(turn, snapshot);
        true
    }

    /// A higher term is noted by everybody who sees it: whoever leads after the store was wiped
    /// must go on from there.
    fn note_term(&self, turn: &mut Turn<'_>, snapshot: &Snapshot) {
        let term = snapshot.lease().map_or(0, |lease| lease.term);
        // A cluster that is not complete yet may still be begun anew by another node.
        let complete = snapshot.initialize.as_ref().is_some_and(|id| !id.value.is_empty());
        let mine = turn.obs.lease.hold.is_some();
        if complete && !mine && term > turn.obs.local.memory.term {
            turn.push(Command::Remember { term }, "the term must outlive a wiped store");
        }
    }

    fn is_me(&self, name: &str) -> bool {
        name == self.settings.name
    }

    /// Is this a lease of this installation that it has not given up?
    fn is_mine(&self, lease: &Lease) -> bool {
        lease.is_held_by(&self.settings.name, &self.settings.instance)
    }

    /// The other members' REST addresses.
    fn others(&self) -> BTreeMap<String, String> {
        let others = self.addresses.iter().filter(|(name, _)| !self.is_me(name));
        others.map(|(name, url)| (name.clone(), url.clone())).collect()
    }
}

/// Who may go on leading without Consul must be known also when Consul has lost it.
fn note_list(turn: &mut Turn<'_>, snapshot: &Snapshot) {
    let Some(list) = snapshot.failsafe.as_ref().map(|failsafe| &failsafe.value) else { return };
    if *list != turn.obs.local.memory.failsafe {
        turn.push(Command::NoteList(list.clone()), "it must outlive a wiped store");
    }
}
