use std::collections::{BTreeMap, BTreeSet};

use super::*;

const ALL: [&str; 4] = ["a", "b", "c", "d"];

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn any(need: usize, names: &[&str]) -> Waits {
    Waits::any(need, set(names))
}

fn voters(quorum: usize, names: &[&str]) -> Voters {
    Voters { names: set(names), quorum }
}

#[test]
fn a_new_set_is_proved_before_it_is_published() {
    let wanted = any(1, &["a", "b"]);
    let nobody = Voters::nobody();
    assert_eq!(next(None, false, &nobody, &wanted), Move::Wait(wanted.clone()));
    assert_eq!(next(Some(&wanted), false, &nobody, &wanted), Move::Nothing);
    let goal = voters(1, &["a", "b"]);
    assert_eq!(next(Some(&wanted), true, &nobody, &wanted), Move::Publish(goal.clone()));
    assert_eq!(next(Some(&wanted), true, &goal, &wanted), Move::Nothing);
}

#[test]
fn one_more_voter_is_published_before_commits_may_rest_on_it() {
    let (old, wanted) = (any(1, &["a"]), any(1, &["a", "b"]));
    let published = voters(0, &["a"]);
    let goal = voters(1, &["a", "b"]);
    assert_eq!(next(Some(&old), true, &published, &wanted), Move::Publish(goal.clone()));
    assert_eq!(next(Some(&old), true, &goal, &wanted), Move::Wait(wanted));
}

#[test]
fn one_that_goes_is_no_longer_waited_for_before_it_is_no_voter() {
    let (old, wanted) = (any(1, &["a", "b"]), any(1, &["a"]));
    let published = voters(1, &["a", "b"]);
    assert_eq!(next(Some(&old), false, &published, &wanted), Move::Wait(wanted.clone()));
    assert_eq!(next(Some(&wanted), false, &published, &wanted), Move::Nothing);
    assert_eq!(next(Some(&wanted), true, &published, &wanted), Move::Publish(voters(0, &["a"])));
}

#[test]
fn without_a_proof_commits_are_made_to_wait_as_the_voters_say() {
    let wanted = any(1, &["a", "b", "c"]);
    let published = voters(1, &["a", "b"]);
    assert_eq!(next(None, false, &published, &wanted), Move::Wait(any(1, &["a", "b"])));
    let gone = any(1, &["b"]);
    assert_eq!(next(None, false, &published, &gone), Move::Publish(Voters::nobody()));
}

#[test]
fn with_no_standby_left_nobody_is_published_first() {
    let old = any(1, &["a", "b"]);
    let published = voters(1, &["a", "b"]);
    let nobody = Waits::nobody();
    assert_eq!(next(Some(&old), true, &published, &nobody), Move::Publish(Voters::nobody()));
    assert_eq!(next(Some(&old), true, &Voters::nobody(), &nobody), Move::Wait(nobody));
}

/// A primary, its standbys' positions, and what the store says.
struct Model {
    draw: u64,
    positions: BTreeMap<String, u64>,
    acked: u64,
    wal: u64,
    /// In force.
    waits: Waits,
    proof: Option<(Waits, u64)>,
    published: Voters,
    wanted: Waits,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            draw: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            positions: ALL.iter().map(|name| ((*name).to_owned(), 0)).collect(),
            acked: 0,
            wal: 0,
            waits: Waits::nobody(),
            proof: None,
            published: Voters::nobody(),
            wanted: any(1, &["a", "b"]),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 7;
        self.draw ^= self.draw << 17;
        usize::try_from(self.draw % end as u64).unwrap()
    }

    fn some_of(&mut self, names: &BTreeSet<String>, count: usize) -> BTreeSet<String> {
        let mut left: Vec<String> = names.iter().cloned().collect();
        let mut chosen = BTreeSet::new();
        while chosen.len() < count {
            let at = self.below(left.len());
            chosen.insert(left.swap_remove(at));
        }
        chosen
    }

    /// A commit is confirmed by just as many as are needed, and by nobody else.
    fn commit(&mut self) {
        self.wal += 1;
        for name in self.some_of(&self.waits.of.clone(), self.waits.need) {
            self.positions.insert(name, self.wal);
        }
        self.acked = self.wal;
    }

    /// The names change, and the proof: a commit that so many of them confirm.
    fn wait_for(&mut self, waits: Waits) {
        self.waits = waits;
        self.commit();
        self.proof = Some((self.waits.clone(), self.wal));
    }

    fn established(&self) -> bool {
        self.proof.as_ref().is_some_and(|(waits, since)| {
            waits.of.iter().filter(|name| self.positions[*name] >= *since).count() >= waits.need
        })
    }

    fn step(&mut self) {
        match self.below(8) {
            0 => {
                let count = self.below(ALL.len() + 1);
                let names = self.some_of(&set(&ALL), count);
                let need = 1 + self.below(2);
                self.wanted = Waits::any(need, names);
            }
            1 => self.proof = self.proof.take().filter(|_| !self.draw.is_multiple_of(4)),
            2 => {
                let name = ALL[self.below(ALL.len())].to_owned();
                self.positions.insert(name, self.wal);
            }
            3..=5 => self.commit(),
            _ => {
                let waits = self.proof.as_ref().map(|(waits, _)| waits);
                match next(waits, self.established(), &self.published, &self.wanted) {
                    Move::Nothing => {}
                    Move::Publish(voters) => self.published = voters,
                    Move::Wait(waits) => self.wait_for(waits),
                }
            }
        }
    }

    /// Every voter with every set of others that is enough: the foremost has all that counts.
    fn check(&self, what: &str) {
        let names: Vec<&String> = self.published.names.iter().collect();
        for mask in 0_u32..1 << names.len() {
            let heard: Vec<u64> = (0..names.len())
                .filter(|at| mask >> at & 1 == 1)
                .map(|at| self.positions[names[at]])
                .collect();
            if heard.len() == self.published.quorum + 1 {
                let most = heard.iter().max().copied().unwrap_or(0);
                assert!(
                    most >= self.acked,
                    "{what}: {:?} have {heard:?}, acknowledged is {}",
                    self.published,
                    self.acked
                );
            }
        }
    }
}

#[test]
fn whoever_may_lead_has_everything_at_every_moment() {
    for seed in 1..2000 {
        let mut model = Model::new(seed);
        for step in 0..300 {
            model.step();
            model.check(&format!("seed {seed}, step {step}"));
        }
    }
}

#[test]
fn it_always_arrives_at_what_is_wanted() {
    for seed in 1..500 {
        let mut model = Model::new(seed);
        (0..100).for_each(|_| model.step());
        for _ in 0..8 {
            // All standbys are up to date.
            let wal = model.wal;
            model.positions.values_mut().for_each(|at| *at = wal);
            let waits = model.proof.as_ref().map(|(waits, _)| waits);
            match next(waits, model.established(), &model.published, &model.wanted) {
                Move::Nothing => {}
                Move::Publish(voters) => model.published = voters,
                Move::Wait(waits) => model.wait_for(waits),
            }
        }
        assert_eq!(model.published, Voters::of(&model.wanted), "seed {seed}");
        assert_eq!(model.waits, model.wanted, "seed {seed}");
    }
}
