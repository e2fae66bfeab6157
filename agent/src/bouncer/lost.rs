//! Poolers that wait because the primary is lost, by what this host finds itself.

use std::time::Duration;

use hart_ha::pooling::{Lost, Sight, accepts};
use hart_ha::store::Snapshot;
use hart_ha::time::Time;

use super::admin::AdminError;
use super::officer::{Held, Officer, Outcome};
use super::question::Who;

/// PgBouncer's own default for what cannot be read.
const RETRY: Duration = Duration::from_secs(15);

impl Officer {
    /// Has the poolers paused where the primary that they lead to is lost. It comes before all else:
    /// from the first login that fails until then PgBouncer disconnects clients.
    pub(super) async fn begin_where_lost(&mut self, ending: bool) {
        let lost = self.with_sight(|watch, sight| watch.look(sight));
        let Some((term, lost)) = lost.filter(|_| self.held.is_none() && !ending) else { return };
        let mut held = self.hold(Who::default(), term, 0);
        held.lost = true;
        let why = match lost {
            Lost::Refuses => self.findings.borrow().why.clone(),
            Lost::Silent => "it does not answer".to_owned(),
        };
        // Nobody leads before its lease is over.
        let now = hart_clock::now();
        held.until = self.lease_ends().unwrap_or(now) + self.config.max_pause;
        let within = now.until(held.until);
        let most = within.as_secs_f32();
        tracing::info!(
            "pausing PgBouncer for {most:.0} s at most, since the primary is lost: {why}"
        );
        self.pause_all(&mut held, within).await;
        held.not_before = hart_clock::now() + self.retry().await.min(self.config.max_pause / 2);
        self.held = Some(held);
    }

    /// Who leads in this picture lets this host in; and its term.
    pub(super) fn accepts(&self, snapshot: &Snapshot) -> Option<(String, u64)> {
        let lease = snapshot.lease()?;
        let found = self.findings.borrow();
        accepts(lease, (found.term, found.contact)).then(|| (lease.holder.clone(), lease.term))
    }

    /// When to look again though nothing changes.
    pub(super) fn lease_ends(&self) -> Option<Time> {
        let seen = self.seen.borrow();
        let ttl = seen.snapshot.as_ref()?.lease()?.ttl();
        self.watch.next(hart_clock::now(), ttl)
    }

    fn with_sight<T>(
        &mut self,
        look: impl FnOnce(&mut hart_ha::pooling::Watch, &Sight<'_>) -> T,
    ) -> T {
        let (seen, finding) = (self.seen.borrow(), self.findings.borrow_and_update());
        let sight = Sight {
            now: hart_clock::now(),
            lease: seen.snapshot.as_ref().and_then(|snapshot| snapshot.lease()),
            arrived: seen.arrived,
            reachable: seen.reachable,
            contact: (finding.term, finding.contact),
        };
        look(&mut self.watch, &sight)
    }

    /// What came of it: one pooler that cannot be paused keeps no other from waiting.
    pub(super) fn paused_for_lost(held: &mut Held, outcome: Outcome) {
        for (number, result) in outcome {
            match result {
                Ok(()) => tracing::info!("PgBouncer is paused"),
                Err(error @ AdminError::Absent(_)) => tracing::info!("{error}: nothing to pause"),
                // Work at a host that does not answer does not end. New work waits all the same.
                Err(AdminError::Busy { .. }) => {}
                Err(error) if error.is_paused_already() => {
                    tracing::info!("{error}: it is left as it is");
                    held.poolers.remove(&number);
                }
                Err(error) => tracing::warn!("its clients do not wait for a primary: {error}"),
            }
        }
        if held.poolers.is_empty() {
            held.over = Some("none of them was paused from here".to_owned());
        }
    }

    /// After a login that failed PgBouncer tries none for so long, and disconnects who asks meanwhile.
    async fn retry(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for pooler in &self.poolers {
            let rows = match pooler.table("SHOW CONFIG", ["key", "value"]).await {
                Ok(rows) => rows,
                Err(AdminError::Absent(_)) => continue,
                Err(_) => Vec::new(),
            };
            let found = rows.iter().find(|row| row[0] == "server_login_retry");
            let seconds = found.and_then(|row| row[1].parse::<f64>().ok());
            let retry = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            longest = longest.max(retry.unwrap_or(RETRY));
        }
        longest
    }
}
