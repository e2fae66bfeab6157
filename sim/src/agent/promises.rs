//! Failsafe: the holder asks the other members to leave the lease alone, and they promise.

use std::time::Duration;

use hart_ha::keeper::{Identity, Question};

use crate::clock::{MS, SEC};
use crate::consul::micros;
use crate::event::{AtAgent, Event};
use crate::mutation::Mutation;
use crate::world::World;

/// One member's answer, or its silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The round.
    pub round: u64,
    /// The member.
    pub member: usize,
    /// Who has promised, by the answer.
    pub giver: Option<Identity>,
}

impl World {
    /// Half of the lease has gone by without a renewal: the members are asked.
    pub(crate) fn ask_members(&mut self, n: usize) {
        let now = self.local(n);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let Some(round) = agent.keeper.ask(now) else { return };
        let within = micros(agent.keeper.ask_timeout());
        let members: Vec<usize> = (0..self.names.len())
            .filter(|member| round.questions.contains_key(&self.names[*member]))
            .collect();
        self.say(n, || format!("asks {:?} to leave the lease alone", round.questions.keys()));
        if let Some(agent) = &mut self.nodes[n].agent {
            agent.open_questions.retain(|(id, _)| *id == round.id);
            agent.open_questions.extend(members.iter().map(|member| (round.id, *member)));
        }
        for member in members {
            let Some((_, question)) = round.questions.get(&self.names[member]) else { continue };
            self.put_question(n, member, round.id, question);
            let silence = Word { round: round.id, member, giver: None };
            self.after(n, within, AtAgent::Word(silence));
        }
    }

    fn put_question(&mut self, n: usize, member: usize, round: u64, question: &Question) {
        let by = (n, self.nodes[n].life);
        let question = Box::new(question.clone());
        let what = || AtAgent::Question { by, round, to: member, question: question.clone() };
        let there = self.net.answers_at(member);
        if let Some(delay) = self.net.send(&mut self.rng, n, there) {
            self.after(there, delay, what());
            // As somebody who asks again on a new connection.
            if self.rng.chance(self.net.twice) {
                let later = delay + self.rng.skewed(MS, 3 * SEC);
                self.after(there, later, what());
            }
        }
    }

    /// A holder asks this node for a promise.
    pub(crate) fn questioned(
        &mut self,
        n: usize,
        by: (usize, u32),
        (round, to): (u64, usize),
        asked: &Question,
    ) {
        let now = self.local(n);
        let forgets = self.mutated(Mutation::FailsafePromiseIgnored);
        let nameless = self.mutated(Mutation::PromiseWithoutItsGiver);
        let vouched = self.vouches(n, by.0, asked);
        let Some(agent) = &mut self.nodes[n].agent else { return };
        let me = agent.keeper.identity();
        let (mut asked, mut giver) = (asked.clone(), me.clone());
        if nameless {
            (asked.to, giver) = (me, asked.to.clone());
        }
        let answer = if forgets {
            agent.keeper.clone().promise(now, &asked, vouched)
        } else {
            agent.keeper.promise(now, &asked, vouched)
        };
        self.say(n, || format!("asked to promise {}: {answer:?}", asked.holder));
        self.settle(n);
        let word = Word { round, member: to, giver: answer.is_ok().then_some(giver) };
        if let Some(delay) = self.net.send(&mut self.rng, n, by.0) {
            self.queue.push(self.t + delay, Event::Agent(by.0, by.1, AtAgent::Word(word)));
        }
    }

    /// Asked back at its own address, the holder says that it holds this lease.
    fn vouches(&self, n: usize, holder: usize, asked: &Question) -> bool {
        let there = self.net.answers_at(holder) == holder
            && self.net.open(n, holder)
            && self.net.open(holder, n);
        let agent = self.nodes[holder].agent.as_ref().filter(|_| there);
        let hold = agent.and_then(|agent| agent.keeper.hold(self.local(holder)));
        hold.is_some_and(|hold| hold.term == asked.term)
    }

    /// Somebody who is not of the cluster asks all of them, for as long as they may promise.
    pub(crate) fn stranger_asks(&mut self) {
        let lease = self.keys().lease().cloned();
        let (holder, term) = lease.map_or_else(<_>::default, |lease| (lease.holder, lease.term));
        let ghost = self.rng.chance(700);
        let holder = if ghost { "ghost".to_owned() } else { holder };
        let term = term + self.rng.below(3);
        let ttl = Duration::from_secs(if self.rng.chance(500) { 3600 } else { 30 });
        let instance = "i-ghost".to_owned();
        let anybody = self.mutated(Mutation::PromiseToAnybody);
        for n in 0..self.nodes.len() {
            let now = self.local(n);
            let Some(agent) = &mut self.nodes[n].agent else { continue };
            let to = agent.keeper.identity();
            let (holder, instance) = (holder.clone(), instance.clone());
            let question = Question { to, holder, instance, term, ttl };
            let answer = agent.keeper.promise(now, &question, anybody);
            self.say(n, || format!("a stranger asks to promise {}: {answer:?}", question.holder));
            if answer.is_ok() {
                let text = format!("n{} has promised a stranger to leave the lease alone", n + 1);
                self.oracle.report(self.t, text);
            }
            self.settle(n);
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
        let lenient = lenient.then(|| Identity { name: name.clone(), instance: None });
        let giver = word.giver.or(lenient);
        agent.keeper.heard(now, word.round, name, giver.as_ref());
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
