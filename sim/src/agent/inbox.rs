//! What happens at an agent, and its timers.

use std::time::Duration;

use hart_consul_dev::model::Reply;
use hart_ha::command::Job;

use crate::agent::state::{LEASE_DUE, Purpose, STEP};
use crate::clock::Us;
use crate::consul::{WRITE, micros};
use crate::event::{Answer, AtAgent, Cause, Event};
use crate::world::World;

impl World {
    /// Something happens at the agent of `n`, later.
    pub fn after(&mut self, n: usize, delay: Us, what: AtAgent) {
        let life = self.nodes[n].life;
        self.queue.push(self.t + delay, Event::Agent(n, life, what));
    }

    /// The loop is to look again.
    pub fn wake(&mut self, n: usize, cause: Cause) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !std::mem::replace(&mut agent.woken, true) {
            let delay = self.rng.range(20, 300);
            self.after(n, delay, AtAgent::Woken(cause));
        }
    }

    /// An event at a live agent that is not frozen.
    pub fn agent_event(&mut self, n: usize, what: AtAgent) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        match what {
            AtAgent::Step(queued) => {
                if self.rings(n, STEP, queued) {
                    self.step(n, Cause::Timer);
                }
            }
            AtAgent::Lease(queued) => {
                if self.rings(n, LEASE_DUE, queued) {
                    self.lease_turn(n, None);
                }
            }
            AtAgent::Woken(cause) => {
                agent.woken = false;
                self.step(n, cause);
            }
            AtAgent::Look(timer) if timer == agent.timers[0] => {
                self.look(n);
                let Some(agent) = &self.nodes[n].agent else { return };
                let pace = self.nodes[n].clock.span(agent.pace);
                self.schedule_look(n, pace);
            }
            AtAgent::LeaseNotSent(id) => self.lease_answered(n, id, self.t, Answer::NotSent),
            AtAgent::Question { by, round, to, question } => {
                self.questioned(n, by, (round, to), &question)
            }
            AtAgent::Word(word) => self.heard(n, word),
            AtAgent::Session(timer) if timer == agent.timers[1] => self.keep_session(n),
            AtAgent::Look(_) | AtAgent::Session(_) => {}
            AtAgent::Answer(call, answer) => self.answered(n, call, answer),
            AtAgent::Watch => self.watch_on(n, 0),
            AtAgent::Job(number) => self.job_due(n, number),
            AtAgent::Followed(upstream) => self.followed(n, upstream),
            AtAgent::TurnedAway => self.turned_away(n),
            AtAgent::NotFollowed => {
                agent.following = false;
                self.wake(n, Cause::Job);
            }
            AtAgent::KillPast => self.kill_past_guard(n),
            AtAgent::Peer(peer, asked, answer) => self.peer_answered(n, peer, asked, answer),
            AtAgent::Paused(peer, asked, paused) => self.poolers_answered(n, peer, asked, paused),
            AtAgent::Asked { by, life, at } => self.asked(n, by, life, at),
            AtAgent::Life => self.life_changed(n),
            AtAgent::Written(key) => {
                agent.writing.remove(key);
                self.wake(n, Cause::Store);
            }
            AtAgent::Looked => self.looked(n),
            AtAgent::Checkpoint => self.checkpoint(n),
            AtAgent::Fenced => {
                agent.fencing = false;
                self.must_not_write(n);
                self.wake(n, Cause::Job);
            }
        }
    }

    pub(crate) fn answered(&mut self, n: usize, call: u64, answer: Answer) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let Some(purpose) = agent.calls.remove(&call) else { return };
        match purpose {
            Purpose::Lease { id, sent } => self.lease_answered(n, id, sent, answer),
            Purpose::ReadBack { id, sent } => self.lease_read(n, id, sent, &answer),
            Purpose::Probe(sent) => self.took(n, sent, &answer),
            Purpose::Watch(index) => self.watch_answered(n, index, answer),
            Purpose::Renew => self.session_renewed(n, &answer),
            Purpose::Create(id) => self.session_created(n, id, &answer),
            Purpose::Write(key, Some(next)) if matches!(&answer, Answer::Reply(reply) if **reply == Reply::Done(false)) =>
            {
                let deadline = self.patience(n, WRITE);
                self.call(n, Purpose::Write(key, None), *next, deadline);
            }
            Purpose::Write(key, _) => self.written(n, key, &answer),
        }
    }

    /// Sets an alarm; there is nothing to be done before.
    pub(crate) fn set_timer(&mut self, n: usize, which: usize, at: Us) {
        let node = &mut self.nodes[n];
        let Some(agent) = &mut node.agent else { return };
        let alarm = &mut agent.alarms[which];
        alarm.at = at;
        if alarm.queued == 0 || at < alarm.queued {
            alarm.queued = at;
            let what = if which == STEP { AtAgent::Step(at) } else { AtAgent::Lease(at) };
            self.queue.push(at, Event::Agent(n, node.life, what));
        }
    }

    /// Its event has come: is it time?
    fn rings(&mut self, n: usize, which: usize, queued: Us) -> bool {
        let Some(agent) = &mut self.nodes[n].agent else { return false };
        let alarm = &mut agent.alarms[which];
        if alarm.queued != queued {
            return false;
        }
        alarm.queued = 0;
        let at = alarm.at;
        if self.t < at {
            self.set_timer(n, which, at);
            return false;
        }
        alarm.at = 0;
        at > 0
    }

    /// PostgreSQL is looked at after `delay`, and not before.
    pub fn schedule_look(&mut self, n: usize, delay: Us) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.timers[0] += 1;
        let timer = agent.timers[0];
        self.after(n, delay, AtAgent::Look(timer));
    }

    /// Waits until a job of this kind is over, for jobs that stop the server.
    pub fn stops(job: &Job) -> bool {
        matches!(job, Job::Stop | Job::Restart)
    }

    /// A duration on the node's clock in true time.
    #[must_use]
    pub fn span(&self, n: usize, by: Duration) -> Us {
        self.nodes[n].clock.span(by).max(micros(by) / 2)
    }
}
