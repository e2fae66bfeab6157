//! An agent begins and ends.

use std::time::Duration;

use hart_consul_dev::model::Request as Call;
use hart_ha::brain::{Brain, Settings};
use hart_ha::command::Exit;
use hart_ha::keeper::Keeper;
use hart_ha::kv::{DynamicConfig, Tags};
use hart_ha::observation::LeaseStanding;
use hart_ha::observation::Observation;

use crate::agent::state::{Agent, LEASE_DUE, View};
use crate::clock::Us;
use crate::clock::{MS, SEC};
use crate::event::{AtAgent, Cause, Event};
use crate::mutation::Mutation;
use crate::node::GUARD;
use crate::node::Node;
use crate::pg::{STRAY, Stage};
use crate::world::World;

/// How long the guard may take to answer an agent that finds it.
const ADOPT: Us = 2 * SEC;
/// The service manager's pause.
const RESTART: Us = 2 * SEC;

impl World {
    /// The service manager starts the machine and the agent.
    pub fn boot(&mut self, n: usize) {
        let (pause, restores) = (self.poolers_of(n), self.restores);
        let node = &mut self.nodes[n];
        if node.agent.is_some() || !node.wanted {
            return;
        }
        if !std::mem::replace(&mut node.powered, true) {
            self.reset_old_connections(n);
        }
        let node = &mut self.nodes[n];
        if node.guard.is_some() && node.is_frozen(GUARD, self.t) {
            // It cannot be adopted, so the agent refuses to start.
            return self.queue.push(self.t + ADOPT + RESTART, Event::Boot(n));
        }
        // Whether there is a pause it has yet to learn.
        node.stopped_by_hand = false;
        node.life += 1;
        node.born = self.t;
        let raw = self.bootstrap.clone();
        let bootstrap = DynamicConfig::from_raw(raw).unwrap_or_default();
        let (name, instance) = (node.name.clone(), node.facts.instance.clone());
        let settings = Settings {
            instance: instance.clone(),
            tags: Tags::default(),
            ever_leads: true,
            bootstrap,
            conn_url: format!("postgres://{name}:5432/postgres"),
            api_url: format!("http://{name}:8008/patroni"),
            clone_after_failed_rewind: true,
            clone_when_diverged: true,
            beats: u64::from(node.life) << 12,
            clone_when_wal_is_gone: true,
            archive: false,
            restores_alone: restores,
            pause,
            name: name.clone(),
        };
        let keeper = Keeper::new(&name, &instance);
        let mut agent = Box::new(agent(Brain::new(settings), keeper, node));
        let up = node.guard.is_some() && node.server.stage != Stage::Down;
        if up {
            agent.up_since = Some(node.clock.local(self.t));
            agent.first_armed = node.guard.as_ref().and_then(|guard| guard.armed);
            agent.acked = agent.first_armed;
            agent.unsettled = agent.acked.is_some();
            let kills = node.guard.as_ref().is_some_and(|guard| guard.fencing);
            agent.killing = kills.then(|| (node.clock.local(self.t), self.t));
        }
        agent.seen.local.stray = node.has_stray().then(|| STRAY.to_owned());
        agent.session = None;
        node.agent = Some(agent);
        self.say(n, || format!("agent starts{}", if up { ", finds PostgreSQL" } else { "" }));
        self.session_in(n, MS);
        // The lease thread measures the round trip from the beginning.
        self.set_timer(n, LEASE_DUE, self.t + MS);
        self.after(n, MS, AtAgent::Watch);
        self.schedule_look(n, MS);
        self.wake(n, Cause::Person);
    }

    /// The agent is gone, in whatever way.
    pub fn lose_agent(&mut self, n: usize) {
        let forgets = self.mutated(Mutation::TermForgotten);
        let node = &mut self.nodes[n];
        if node.agent.take().is_some() && forgets {
            node.facts.term = 0;
        }
        node.life += 1;
    }

    pub(crate) fn exit(&mut self, n: usize, exit: &Exit) {
        self.say(n, || format!("agent ends: {exit:?}"));
        let session = self.nodes[n].facts.session.clone();
        self.lose_agent(n);
        match exit {
            Exit::Stopped => {
                self.nodes[n].wanted = false;
                if let Some(id) = session
                    && self.net.open(n, self.consul())
                    && self.t >= self.store.down_until
                {
                    self.person_does(&Call::SessionDestroy(id.as_str().into()));
                }
            }
            Exit::Refused(_) => self.queue.push(self.t + 2 * SEC, Event::Boot(n)),
        }
    }

    /// Is shutdown asked for; the loop looks.
    pub fn ask_to_stop(&mut self, n: usize) {
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.seen.shutdown = true;
            self.wake(n, Cause::Person);
        }
    }
}

fn agent(brain: Brain, keeper: Keeper, node: &Node) -> Agent {
    let mut seen = Observation::default();
    seen.store.session = None;
    seen.local.memory.term = node.facts.term;
    Agent {
        brain,
        keeper,
        seen,
        applied: None,
        open: false,
        revocable: false,
        paused: false,
        job: None,
        finished: Vec::new(),
        compared: (0, 0),
        asking: Default::default(),
        asks_since: None,
        pausing: Default::default(),
        writing: Default::default(),
        troubles: Default::default(),
        calls: Default::default(),
        following: false,
        fencing: false,
        killing: None,
        stale: true,
        upstream: None,
        proof: None,
        up_since: None,
        first_armed: None,
        starts_with: None,
        acked: None,
        unsettled: false,
        told: None,
        hold: None,
        standing: LeaseStanding::default(),
        open_questions: Default::default(),
        session: None,
        confirmed: false,
        failures: (0, 0),
        pace: Duration::from_secs(1),
        woken: false,
        timers: [0; 2],
        alarms: Default::default(),
        history_of: None,
        state: 0,
        locked: None,
        view: View::default(),
        doubt: false,
        unknown_sent: 0,
        lateness: 0,
        looked: (0, false),
        ghost: None,
        last_phase: String::new(),
    }
}
