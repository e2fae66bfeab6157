//! REST as a file has it that says nothing about access.

use anyhow::{Context, Result, ensure};
use hart_testkit::{Options, Rest};
use serde_json::json;

use crate::Drill;
use crate::drill::Loss;

/// Longer than several leases.
const WHILE: std::time::Duration = std::time::Duration::from_secs(12);

/// The test's own host is no member's. A member asks the others for their promises when Consul is gone.
#[tokio::test]
async fn strangers_change_nothing_and_members_do() -> Result<()> {
    let options = Options { open: false, ..Options::default() };
    let mut drill = Drill::with(&options).await?;
    let primary = drill.write_patiently().await?;
    let replica = drill.other_than(&primary)?;
    let change = json!({ "maximum_lag_on_failover": 2_000_000 });

    let refused = drill.cluster.rest(&primary, "PATCH", "/config", Some(&change)).await?;
    ensure!(refused.status == 403 && refused.text.contains("restapi.open"), "{refused:?}");
    let read = drill.cluster.rest(&primary, "GET", "/config", None).await?.json()?;
    ensure!(read["maximum_lag_on_failover"] != 2_000_000, "{read}");

    for from in [&replica, &primary] {
        let url = drill.cluster.node(&primary)?.url("/config");
        let body = change.clone();
        let call = async move || Rest::new()?.call("PATCH", &url, Some(&body)).await;
        let done = drill.cluster.host(from)?.thread(move || async move { call().await })?;
        let answer = tokio::task::spawn_blocking(move || done.join()).await?;
        let answer = answer.ok().context("the thread has panicked")???;
        ensure!(answer.ok(), "from {from}: {answer:?}");
    }

    drill.cluster.kill_consul();
    tokio::time::sleep(WHILE).await;
    drill.written().await?;
    drill.cluster.start_consul().await?;
    let announced = ["refused a call that changes something", "Consul", "lease", "failsafe"];
    let last = drill.finish(Loss::None, &announced).await?;
    ensure!(last == primary, "{last} leads instead of {primary}\n{}", drill.logs());
    Ok(())
}
