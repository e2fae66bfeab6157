//! `synchronous_mode: quorum`: commits wait for any `k` of the standbys, so no single one of them
//! surely has everything. What keeps it safe is one inequality, which holds at every moment:
//!
//! `k + q ≥ |S ∪ V|`: commits wait for `k` of the set `S`; published are the voters `V`, of whom a
//! candidate must hear `q` others.
//!
//! Then the `q + 1` nodes of a candidate and those it has heard and the `k` nodes that confirmed a
//! commit have one in common, whichever they are; and WAL is a line, so the foremost of the `q + 1`
//! has it. A change of `S` is thus made while the voters published fit the old and the new set; where
//! they do not, wider ones are published first. What was acknowledged under an earlier set is held by
//! `k` of the present one: they confirmed the proof of it, and with it all that came before.

use super::super::Brain;
use super::super::turn::Turn;
use crate::observation::{Sql, SyncProof};
use crate::store::{Index, Snapshot};
use crate::waits::{Voters, Waits};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Nothing,
    Publish(Voters),
    Wait(Waits),
}

/// The next move towards `wanted`. `waits`: what commits are proved to wait for; `established`: so
/// many of those as are needed are seen to have everything from before the proof.
pub(super) fn next(
    waits: Option<&Waits>,
    established: bool,
    published: &Voters,
    wanted: &Waits,
) -> Move {
    if wanted.is_nobody() && *published != Voters::nobody() {
        return Move::Publish(Voters::nobody());
    }
    match waits {
        None => without_proof(published, wanted),
        Some(waits) if waits == wanted => {
            let goal = Voters::of(wanted);
            match (*published == goal, established || wanted.is_nobody()) {
                (false, true) => Move::Publish(goal),
                _ => Move::Nothing,
            }
        }
        Some(_) if fits(wanted, published) => Move::Wait(wanted.clone()),
        Some(waits) if established || *published == Voters::of(waits) => {
            Move::Publish(wider(waits, wanted))
        }
        // Always safe, and the way out where a standby of the set is gone.
        Some(_) => Move::Publish(Voters::nobody()),
    }
}

/// The server may wait for whatever the published voters fit; it is brought to what they say.
fn without_proof(published: &Voters, wanted: &Waits) -> Move {
    let need = published.names.len().saturating_sub(published.quorum);
    if published.names.is_empty() {
        Move::Wait(wanted.clone())
    } else if published.names.is_subset(&wanted.of) && need > 0 {
        Move::Wait(Waits::any(need, published.names.clone()))
    } else {
        Move::Publish(Voters::nobody())
    }
}

/// May commits wait in this way while these are published?
fn fits(waits: &Waits, published: &Voters) -> bool {
    let all = waits.of.union(&published.names).count();
    published.names.is_empty() || waits.need + published.quorum >= all
}

/// Voters that fit both.
fn wider(one: &Waits, other: &Waits) -> Voters {
    let names: std::collections::BTreeSet<_> = one.of.union(&other.of).cloned().collect();
    let quorum = names.len().saturating_sub(one.need.min(other.need));
    Voters { names, quorum }
}

/// Are there as many as are needed that have everything from before the proof?
fn established(sql: &Sql, proof: &SyncProof) -> bool {
    let waits = &proof.waits;
    let complete = waits.of.iter().filter(|name| {
        let row = sql.standbys.iter().filter(|row| row.name == **name && row.sync);
        row.map(|row| row.flush_lsn).max().is_some_and(|flushed| flushed >= proof.since)
    });
    complete.count() >= waits.need
}

impl Brain {
    /// Is the set, as it is or as it is to be, one of which a part is enough?
    pub(super) fn is_quorum(turn: &Turn<'_>, published: &Voters) -> bool {
        let proof = turn.obs.local.waits_for.as_ref();
        turn.config.synchronous_mode == crate::kv::SynchronousMode::Quorum
            || published.quorum > 0
            || proof.is_some_and(|proof| !proof.waits.is_all())
    }

    /// One move towards `wanted`.
    pub(super) fn keep_quorum(
        &mut self,
        turn: &mut Turn<'_>,
        snapshot: &Snapshot,
        sql: &Sql,
        wanted: &Waits,
    ) {
        let at = snapshot.sync.as_ref().map_or(0, |sync| sync.index);
        let published = self.published_voters(snapshot);
        let proof = turn.obs.local.waits_for.clone();
        let complete = proof.as_ref().is_some_and(|proof| established(sql, proof));
        let told = !super::strictness_differs(turn, sql);
        let waits = proof.as_ref().filter(|_| told).map(|proof| &proof.waits);
        match next(waits, complete, &published, wanted) {
            // It lacks something from before the proof.
            Move::Nothing if published != Voters::of(wanted) => turn.wake_soon(),
            Move::Nothing => {}
            Move::Publish(voters) => {
                let reason = format!(
                    "commits wait for {} of {}",
                    wanted.need,
                    wanted.of.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                );
                self.write_sync(turn, voters, at, reason);
            }
            Move::Wait(_) if self.another_may_come_true(at) => {
                self.write_sync(turn, published, at, super::RULED_OUT.to_owned());
            }
            Move::Wait(waits) => self.wait_for(turn, &published.names, waits, at),
        }
    }

    /// A write whose answer never came rests on this version.
    fn another_may_come_true(&self, at: Index) -> bool {
        let sent = self.sync_sent.as_ref().is_some_and(|(index, _)| *index == at);
        sent || self.sync_doubt.is_at(at)
    }
}

#[cfg(test)]
mod tests;
