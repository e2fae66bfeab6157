//! What a cluster at rest costs Consul: entries of its Raft log per second, by the length of the lease.

use std::time::Duration;

use anyhow::{Context, Result};
use hart_testkit::{Cluster, Options};
use serde_json::Value;

use crate::scenario::{COMMITS, COMMITS_TTL_15};
use crate::summary::Summary;

const HEALTHY: Duration = Duration::from_secs(180);

/// How long the cluster is left alone before.
const SETTLE: Duration = Duration::from_secs(20);

/// Long enough for many renewals.
const OBSERVE: Duration = Duration::from_secs(60);

/// The leases of the other rows, and long ones that need not be waited for.
pub(crate) async fn measure() -> Result<Vec<Summary>> {
    let sync = Options::default().dcs("synchronous_mode", true);
    let short = commits(&sync).await?;
    let long = sync.dcs("takeover", "revoke").dcs("ttl", 15).dcs("loop_wait", 10);
    let long = commits(&long).await?;
    Ok(vec![
        Summary::new(COMMITS, vec![short], None),
        Summary::new(COMMITS_TTL_15, vec![long], None),
    ])
}

async fn commits(options: &Options) -> Result<f64> {
    let mut cluster = Cluster::prepare(3, options).await?;
    cluster.start_nodes()?;
    cluster.wait_healthy(3, HEALTHY).await?;
    eprintln!("rest: {} s", (SETTLE + OBSERVE).as_secs());
    tokio::time::sleep(SETTLE).await;
    let (start, before) = (hart_clock::now(), index(&mut cluster).await?);
    tokio::time::sleep(OBSERVE).await;
    let (seconds, after) =
        (hart_clock::now().since(start).as_secs_f64(), index(&mut cluster).await?);
    Ok((after - before) / seconds)
}

/// The last entry of the Raft log, as `GET /v1/agent/self` shows it.
async fn index(cluster: &mut Cluster) -> Result<f64> {
    let text = cluster.consul().get("/v1/agent/self").await?;
    last_index(&text).with_context(|| format!("no Stats.raft.last_log_index in {text}"))
}

fn last_index(text: &str) -> Option<f64> {
    let found: Value = serde_json::from_str(text).ok()?;
    found["Stats"]["raft"]["last_log_index"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_consul_writes() {
        assert_eq!(last_index(r#"{"Stats":{"raft":{"last_log_index":"412"}}}"#), Some(412.0));
        assert_eq!(last_index("{}"), None);
    }
}
