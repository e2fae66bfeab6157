//! Asks the last known primary itself whether it still leads: while Consul is away, a primary may go
//! on in failsafe mode. In the background; no question waits for it.

use std::time::Duration;

use hart_ha::store::Snapshot;
use serde_json::Value;

use crate::cli::rest::{self, Rest};

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
    let body: Value = serde_json::from_str(&answer.text).ok()?;
    if body["patroni"]["name"].as_str() != Some(leader) {
        return None;
    }
    let instance = body["hart"]["instance"].as_str();
    if instance.is_some_and(|its| !entry.instance.is_empty() && its != entry.instance) {
        return None;
    }
    left(&body, patroni_ttl)
}

fn left(body: &Value, patroni_ttl: Duration) -> Option<Duration> {
    match body.get("hart") {
        Some(own) => own["lease"]["left_ms"].as_u64().map(Duration::from_millis),
        // Patroni answers so only within its own ttl, and looks at the store again before half of it.
        None => Some(patroni_ttl / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_leader_says_for_how_long() {
        let ttl = Duration::from_secs(30);
        let with = |lease: Value| left(&json!({"hart": {"lease": lease}}), ttl);
        assert_eq!(with(json!({"left_ms": 900})), Some(Duration::from_millis(900)));
        assert_eq!(with(Value::Null), None);
        assert_eq!(left(&json!({"role": "primary"}), ttl), Some(ttl / 2));
    }
}
