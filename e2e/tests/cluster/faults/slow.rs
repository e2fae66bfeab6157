//! Consul is slow, has lost the lease's record, or is shared with a program that knows no lease.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Options, Rest, Trouble, eventually};
use serde_json::json;

use super::{AWAY, ENDED, FENCED};
use crate::drill::Loss;
use crate::{Drill, keys};

/// What may be said while a Consul that was fast is slow.
const SLOW: [&str; 3] = [AWAY, "round trip to Consul", "Consul is silent"];

/// From now on Consul is so far away for every node.
fn far(drill: &Drill, each_way: Duration) -> Result<Vec<u64>> {
    let servers = drill.cluster.server_hosts();
    let mut rules = Vec::new();
    for node in drill.cluster.nodes() {
        let host = node.host().context("every node has a host")?;
        for server in &servers {
            let trouble = Trouble::slow(each_way);
            rules.extend(drill.cluster.lab().disturb_both(
                Some(host),
                Some(server),
                None,
                trouble,
            )?);
        }
    }
    Ok(rules)
}

async fn a_lost_primary_is_replaced(ttl: u64, each_way: u64) -> Result<()> {
    let mut drill = Drill::with(&Options::default().dcs("ttl", ttl).on_switch(ttl)).await?;
    let primary = drill.write().await?;
    let rules = far(&drill, Duration::from_millis(each_way))?;
    // The leader goes on for longer than its lease, and all get used to it.
    tokio::time::sleep(Duration::from_secs(2 * ttl)).await;
    drill.written().await?;
    ensure!(drill.cluster.wait_primary(DEADLINE).await? == primary, "{}", drill.logs());
    drill.cluster.kill_node(&primary)?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await;
    next.with_context(|| drill.logs())?;
    drill.written().await?;
    drill.cluster.lab().calm(&rules)?;
    drill.cluster.revive_node(&primary).await?;
    drill.finish(Loss::Some, &SLOW).await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_primary_is_replaced_with_a_round_trip_of_nine_tenths_at_ttl_3() -> Result<()> {
    a_lost_primary_is_replaced(3, 440).await
}

#[tokio::test]
async fn a_lost_primary_is_replaced_with_a_round_trip_of_sixteen_tenths_at_ttl_6() -> Result<()> {
    a_lost_primary_is_replaced(6, 800).await
}

/// The wait for the longest lease begins although the lock of the former holder is still there: Consul
/// frees it only when its session has ended, up to 20 s later.
#[tokio::test]
async fn the_record_is_deleted_while_its_holder_is_gone() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let session = drill.cluster.leader_session().await?;
    drill.cluster.kill_node(&primary)?;
    drill.cluster.consul_call("DELETE", "/v1/kv/service/ha/status").await?;
    eventually("the empty record", DEADLINE, async || {
        keys::raw(drill.cluster.consul(), "status").await.map(drop)
    })
    .await
    .with_context(|| drill.logs())?;
    let locked = drill.cluster.leader_session().await;
    ensure!(
        locked.is_ok_and(|locked| locked == session),
        "it waited for the lock\n{}",
        drill.logs()
    );
    drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    drill.written().await?;
    drill.cluster.revive_node(&primary).await?;
    drill.finish(Loss::Some, &["service/ha/status"]).await?;
    Ok(())
}

/// A program that goes by the lock alone, as Patroni does, has taken it: whoever led is fenced, and nobody
/// leads before that program's session is over.
#[tokio::test]
async fn another_program_takes_the_lock() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let rest = Rest::new()?;
    let url = |drill: &mut Drill, path: &str| drill.cluster.consul().url(path);
    let create = url(&mut drill, "/v1/session/create");
    let session = json!({ "Behavior": "delete", "LockDelay": "1ms" });
    let made = rest.call("PUT", &create, Some(&session)).await?.json()?;
    let stranger = made["ID"].as_str().context("no session")?.to_owned();
    let ours = drill.cluster.leader_session().await?;
    let lock = |verb: &str, session: &str| {
        let key = "service/ha/leader";
        json!({ "KV": { "Verb": verb, "Key": key, "Value": "ZWxzZXdoZXJl", "Session": session } })
    };
    let ops = json!([lock("unlock", &ours), lock("lock", &stranger)]);
    let taken = rest.call("PUT", &url(&mut drill, "/v1/txn"), Some(&ops)).await?;
    ensure!(taken.ok(), "{taken:?}");

    let nobody = async || {
        for node in drill.cluster.nodes() {
            let answer = drill.cluster.rest(node.name(), "GET", "/primary", None).await?;
            ensure!(answer.status == 503, "{} leads", node.name());
        }
        ensure!(drill.cluster.node(&primary)?.log_contains("elsewhere leads"), "not said");
        Ok(())
    };
    eventually("nobody to lead", DEADLINE, nobody).await.with_context(|| drill.logs())?;
    // Longer than the lease: nobody takes the lock from under a living session.
    super::longer_than_a_lease().await;
    let held = drill.cluster.leader_session().await?;
    ensure!(held == stranger, "{held} took the lock\n{}", drill.logs());

    let destroy = format!("/v1/session/destroy/{stranger}");
    drill.cluster.consul_call("PUT", &destroy).await?;
    drill.cluster.wait_primary(DEADLINE).await.with_context(|| drill.logs())?;
    drill.written().await?;
    drill.finish(Loss::Some, &[ENDED, FENCED, "elsewhere"]).await?;
    Ok(())
}
