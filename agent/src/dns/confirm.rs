//! Asks the last known primary itself whether it still leads: while Consul is away, a primary may go
//! on in failsafe mode. In the background; no question waits for it.

use std::time::Duration;

use hart_ha::store::Snapshot;

use crate::cli::rest::{self, Rest};
use crate::node::status::PeerStatus;

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How long the leader says that it leads from now on; `None` where it does not, or does not
/// answer. `patroni_ttl` stands for a leader that gives no time.
pub async fn ask(
    rest: &Rest,
    snapshot: &Snapshot,
    leader: &str,
    patroni_ttl: Duration,
) -> Option<Duration> {
    let entry = snapshot.member(leader)?;
    let url = rest::url(&entry.api_url, "primary");
    let answer = rest.get(&url, ANSWER).await.ok()?;
    if answer.status != 200 {
        return None;
    }
    let status = PeerStatus::read(&answer.text).ok()?;
    if status.patroni.name.as_deref() != Some(leader) {
        return None;
    }
    let instance = status.hart.as_ref().map(|own| &own.word.instance);
    if instance.is_some_and(|its| !entry.instance.is_empty() && *its != entry.instance) {
        return None;
    }
    left(&status, patroni_ttl)
}

fn left(status: &PeerStatus, patroni_ttl: Duration) -> Option<Duration> {
    match &status.hart {
        // One without an end, as in a pause, is asked after again all the same.
        Some(own) => own
            .word
            .lease
            .as_ref()
            .map(|lease| Duration::from_millis(lease.left_ms).min(hart_ha::kv::TTL_MAX)),
        // Patroni answers so only within its own ttl, and looks at the store again before half of it.
        None => Some(patroni_ttl / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::status::tests::running;
    use crate::node::word::Deadline;

    #[test]
    fn a_leader_says_for_how_long() {
        let ttl = Duration::from_secs(30);
        let with = |lease: Option<Deadline>| {
            let mut status = running();
            status.hart.as_mut().unwrap().word.lease = lease;
            left(&status, ttl)
        };
        let lease = Deadline { term: 3, left_ms: 900 };
        assert_eq!(with(Some(lease)), Some(Duration::from_millis(900)));
        assert_eq!(with(None), None);
        assert_eq!(left(&PeerStatus { hart: None, ..running() }, ttl), Some(ttl / 2));
    }
}
