//! Asking the other members over REST.

use hart_ha::lsn::Lsn;
use hart_ha::observation::{PeerAnswer, Probe};
use hart_ha::time::Time;

use crate::clock::{MS, Us};
use crate::event::{AtAgent, Cause, Event};
use crate::mutation::Mutation;
use crate::world::World;

/// How long a member may take to answer a probe.
const PROBE: Us = 350 * MS;

impl World {
    /// Asks a peer for its position, unless it is being asked.
    pub fn ask(&mut self, n: usize, name: &str) {
        let Some(peer) = self.names.iter().position(|known| known == name) else { return };
        let asked = self.local(n);
        let life = self.nodes[n].life;
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !agent.asking.insert(name.to_owned()) {
            return;
        }
        if agent.asks_since.is_none_or(|(_, change)| change != self.renewed) {
            agent.asks_since = Some((self.t, self.renewed));
        }
        // The answer of another member is none.
        let its_own = self.net.answers_at(peer) == peer;
        if let Some(delay) = self.net.send(&mut self.rng, n, peer).filter(|_| its_own) {
            let what = AtAgent::Asked { by: n, life, at: asked };
            self.after(peer, delay, what);
        }
        self.after(n, PROBE, AtAgent::Peer(peer, asked, None));
    }

    /// A peer asks: a fresh look, a step, and the answer.
    pub fn asked(&mut self, n: usize, by: usize, life: u32, at: Time) {
        self.look(n);
        self.agent_event(n, AtAgent::Woken(Cause::Peer));
        let Some(agent) = &self.nodes[n].agent else { return };
        let member = &agent.view.member;
        let answer = PeerAnswer {
            instance: Some(member.instance.clone()),
            state: member.state,
            role: member.role,
            timeline: member.timeline.unwrap_or_default(),
            timeline_term: member
                .timeline
                .and_then(|number| member.timeline_terms.get(&number).copied()),
            position: member.xlog_location.unwrap_or_default(),
            tags: member.tags.clone(),
            may_lead: Some(agent.view.may_lead_since.is_some()),
            term: agent.view.term,
            follows: agent.view.follows,
            unheard: agent.view.heard.map(|at| agent.seen.now.since(at)),
            promised: agent
                .standing
                .promised
                .as_ref()
                .filter(|given| agent.seen.now < given.until)
                .map(|given| given.holder.clone()),
            holds: agent.seen.lease.hold.is_some()
                || agent.seen.local.armed.is_some_and(|armed| agent.seen.now < armed.deadline),
            failsafe: agent.seen.local.memory.failsafe.clone(),
        };
        let unbound = self.mutated(Mutation::QuorumWordDoesNotBind);
        let follows = answer.follows.or((unbound && answer.term > 0).then_some(answer.term));
        let ahead = self.mutated(Mutation::HandOverBeforeCaughtUp);
        let position = if ahead { Lsn(u64::MAX / 2) } else { answer.position };
        let answer = PeerAnswer { position, follows, ..answer };
        if let Some(delay) = self.net.send(&mut self.rng, n, by) {
            let what = AtAgent::Peer(n, at, Some(Box::new(answer)));
            self.queue.push(self.t + delay, Event::Agent(by, life, what));
        }
    }

    /// Its machine is there: it refuses the connection, or another member answers.
    fn refuses(&self, n: usize, peer: usize) -> bool {
        let there = &self.nodes[self.net.answers_at(peer)];
        let open = self.net.open(n, peer) && self.net.open(peer, n);
        let misled = self.net.answers_at(peer) != peer;
        open && there.powered && (there.agent.is_none() || misled)
    }

    /// A peer's answer, or its silence.
    pub fn peer_answered(
        &mut self,
        n: usize,
        peer: usize,
        asked: Time,
        answer: Option<Box<PeerAnswer>>,
    ) {
        let name = self.names[peer].clone();
        let present = answer.is_some() || self.refuses(n, peer);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let known = agent.seen.peers.get(&name).map(|probe| probe.asked);
        if !agent.asking.contains(&name) || known.is_some_and(|known| known >= asked) {
            return;
        }
        agent.asking.remove(&name);
        let answer = answer.map(|answer| *answer);
        agent.seen.peers.insert(name, Probe { asked, answer, present });
        self.wake(n, Cause::Peer);
    }
}
