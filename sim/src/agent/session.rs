//! The session in Consul.

use hart_consul_dev::model::{Behavior, Reply, Request as Call, SessionSpec};

use crate::agent::lease::Order;
use crate::agent::state::Purpose;
use crate::clock::{SEC, Us};
use crate::consul::USUAL;
use crate::event::{Answer, AtAgent, Cause};
use crate::world::World;

const SESSION_RENEW: Us = 3 * SEC;

impl World {
    pub(crate) fn session_in(&mut self, n: usize, delay: Us) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.timers[1] += 1;
        let timer = agent.timers[1];
        self.after(n, delay, AtAgent::Session(timer));
    }

    /// Our own entry is not locked as it was: is the session still there?
    pub(crate) fn doubt_session(&mut self, n: usize) {
        let name = self.names[n].clone();
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let keys = agent.seen.store.snapshot.as_ref();
        let locked = keys.and_then(|k| k.members.get(&name)).and_then(|m| m.session.clone());
        let before = std::mem::replace(&mut agent.locked, locked);
        if before.is_some() && before != agent.locked {
            self.doubt_at_once(n);
        }
    }

    /// The session may be gone.
    pub(crate) fn doubt_at_once(&mut self, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.doubt = true;
        self.look_at_session(n, 100);
    }

    /// Looks now where there is doubt and no call is under way, or after `usual`. Whatever raised
    /// the doubt was an answer of Consul's, so a pause after failures is over, too.
    fn look_at_session(&mut self, n: usize, usual: Us) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let asking = agent.calls.values().any(|p| matches!(p, Purpose::Renew | Purpose::Create(_)));
        if agent.doubt && asking {
            return;
        }
        let delay = if std::mem::take(&mut agent.doubt) { 100 } else { usual };
        self.session_in(n, delay);
    }

    pub(crate) fn keep_session(&mut self, n: usize) {
        let known = self.nodes[n].facts.session.clone();
        match known {
            Some(id) => {
                let call = Call::SessionRenew(id.as_str().into());
                let deadline = self.patience(n, USUAL);
                self.call(n, Purpose::Renew, call, deadline);
            }
            None => self.create_session(n),
        }
    }

    pub(crate) fn create_session(&mut self, n: usize) {
        let (a, b) = (self.rng.draw(), self.rng.draw());
        let id = format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        );
        let spec = SessionSpec {
            lock_delay: 1_000_000,
            behavior: Behavior::Delete,
            ttl: "10s".to_owned(),
            ..SessionSpec::new("dev")
        };
        let call = Call::SessionCreate(id.as_str().into(), spec);
        let deadline = self.patience(n, USUAL);
        self.call(n, Purpose::Create(id), call, deadline);
    }

    pub(crate) fn session_renewed(&mut self, n: usize, answer: &Answer) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let reply = if let Answer::Reply(reply) = answer { Some(&**reply) } else { None };
        match reply {
            Some(Reply::Session(Some(_))) => {
                agent.failures.0 = 0;
                let new = !std::mem::replace(&mut agent.confirmed, true);
                if new {
                    let session = self.nodes[n].facts.session.clone();
                    self.new_session(n, session);
                }
                self.look_at_session(n, SESSION_RENEW);
            }
            Some(Reply::Session(None)) => {
                self.say(n, || "the session is gone".to_owned());
                self.nodes[n].facts.session = None;
                self.create_session(n);
            }
            _ => self.session_failed(n),
        }
    }

    pub(crate) fn session_failed(&mut self, n: usize) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let failures = agent.failures.0;
        agent.failures.0 += 1;
        let pause = self.back_off(failures);
        self.look_at_session(n, pause);
    }

    pub(crate) fn session_created(&mut self, n: usize, id: String, answer: &Answer) {
        let made =
            matches!(answer, Answer::Reply(reply) if matches!(**reply, Reply::Session(Some(_))));
        if !made {
            return self.session_failed(n);
        }
        let Some(agent) = &mut self.nodes[n].agent else { return };
        (agent.confirmed, agent.failures.0) = (true, 0);
        self.new_session(n, Some(id));
        self.look_at_session(n, SESSION_RENEW);
    }

    pub(crate) fn new_session(&mut self, n: usize, session: Option<String>) {
        let Some(agent) = &mut self.nodes[n].agent else { return };
        agent.session.clone_from(&session);
        agent.seen.store.session.clone_from(&session);
        self.nodes[n].facts.session.clone_from(&session);
        self.lease_turn(n, Some(Order::Session(session)));
        self.wake(n, Cause::Store);
    }
}
