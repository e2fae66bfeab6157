//! Failsafe: the holder asks the other members to leave the lease alone, and they promise.

use hart_ha::keeper::Question;

use crate::clock::{MS, SEC};
use crate::consul::micros;
use crate::event::{AtAgent, Event};
use crate::mutation::Mutation;
use crate::world::World;

/// One member's answer, or its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word {
    /// The round.
    pub round: u64,
    /// The member.
    pub member: usize,
    /// Agreed.
    pub yes: bool,
}

impl World {
    /// Half of the lease has gone by without a renewal: the members are asked.
    pub(crate) fn ask_members(&mut self, n: usize) {
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let Some(round) = agent.keeper.ask(now) else { return };
        let within = micros(agent.keeper.ask_timeout());
        let members: Vec<usize> = (0..self.names.len())
            .filter(|member| round.members.contains_key(&self.names[*member]))
            .collect();
        self.say(n, || format!("asks {:?} to leave the lease alone", round.members.keys()));
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.open_questions.retain(|(id, _)| *id == round.id);
            agent.open_questions.extend(members.iter().map(|member| (round.id, *member)));
        }
        for member in members {
            self.put_question(n, member, round.id, &round.question);
            let silence = Word { round: round.id, member, yes: false };
            self.after(n, within, AtAgent::Word(silence));
        }
    }

    fn put_question(&mut self, n: usize, member: usize, round: u64, question: &Question) {
        let by = (n, self.nodes[n].life);
        let what = || AtAgent::Question { by, round, question: Box::new(question.clone()) };
        if let Some(delay) = self.net.send(&mut self.rng, n, member) {
            self.after(member, delay, what());
            // As somebody who asks again on a new connection.
            if self.rng.chance(self.net.twice) {
                let later = delay + self.rng.skewed(MS, 3 * SEC);
                self.after(member, later, what());
            }
        }
    }

    /// A holder asks this node for a promise.
    pub(crate) fn questioned(&mut self, n: usize, by: (usize, u32), round: u64, asked: &Question) {
        let now = self.local(n);
        let forgets = self.mutated(Mutation::FailsafePromiseIgnored);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let answer = if forgets {
            agent.keeper.clone().promise(now, asked)
        } else {
            agent.keeper.promise(now, asked)
        };
        self.say(n, || format!("asked to promise {}: {answer:?}", asked.holder));
        self.settle(n);
        let word = Word { round, member: n, yes: answer.is_ok() };
        if let Some(delay) = self.net.send(&mut self.rng, n, by.0) {
            self.queue.push(self.t + delay, Event::Agent(by.0, by.1, AtAgent::Word(word)));
        }
    }

    /// A member's word, or the end of the time for it.
    pub(crate) fn heard(&mut self, n: usize, word: Word) {
        let now = self.local(n);
        let lenient = self.mutated(Mutation::OneSilenceSuffices);
        let name = &self.names[word.member];
        let Some(agent) = &mut self.nodes[n].agent else { return };
        if !agent.open_questions.remove(&(word.round, word.member)) {
            return;
        }
        agent.keeper.heard(now, word.round, name, word.yes || lenient);
        self.lease_on(n, None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hart_ha::keeper::Keeper;
    use hart_ha::lease::margin;

    /// Why no mutation counts promises from the answers: within the time that a member has, it
    /// would make no difference. The holder ends a margin early, a challenger begins one late.
    #[test]
    fn a_members_time_to_answer_is_shorter_than_both_margins() {
        let mut keeper = Keeper::new("n1", "i1");
        for ttl in [2, 3, 6, 15, 30].map(Duration::from_secs) {
            keeper.configure(ttl, ttl / 4);
            assert!(keeper.ask_timeout() < margin(ttl) * 2, "{ttl:?}");
        }
    }
}
