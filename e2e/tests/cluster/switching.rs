//! The primary's role is given away in good order.

use anyhow::{Context, Result, ensure};
use hart_testkit::{Options, Postgres, Sql, eventually};

use crate::Drill;
use crate::drill::Loss;
use crate::program::hart;

/// Twice: to a named candidate, and to whichever is best. Even asynchronous replication loses
/// nothing, and the old primary follows as it is.
async fn switched_over(synchronous: bool) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let first = drill.write().await?;
    let candidate =
        if synchronous { drill.synchronous_standby().await? } else { drill.other_than(&first)? };
    drill.cluster.switchover(Some(&candidate)).await?;
    drill.written().await?;
    ensure!(drill.cluster.primary().await? == candidate, "another one leads\n{}", drill.logs());
    drill.pause()?;
    drill.cluster.wait_healthy(3, hart_e2e::DEADLINE).await?;
    if synchronous {
        drill.synchronous_standby().await?;
        an_early_release_is_said(&drill, &candidate).await?;
    }

    drill.write().await?;
    drill.cluster.switchover(None).await?;
    drill.written().await?;
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last != candidate, "{last} leads still\n{}", drill.logs());
    ensure!(drill.timeline(&last).await? == 3, "two switchovers make two timelines");
    for node in drill.cluster.nodes() {
        ensure!(!node.log_contains("begin: rewind"), "rewound\n{}", node.log());
        let copies = node.log().matches("begin: base backup").count();
        ensure!(copies <= 1, "copied again\n{}", node.log());
    }
    Ok(())
}

/// Releases before May 2025 may acknowledge without a standby.
async fn an_early_release_is_said(drill: &Drill, leader: &str) -> Result<()> {
    let sql = drill.cluster.sql(leader).await?;
    let version: u32 =
        sql.value("SHOW server_version_num").await?.context("no version")?.parse()?;
    let early = match version / 10_000 {
        13 => version < 130_021,
        14 => version < 140_018,
        15 => version < 150_013,
        16 => version < 160_009,
        17 => version < 170_005,
        _ => false,
    };
    let said =
        format!("{leader}: PostgreSQL {}.{} may acknowledge", version / 10_000, version % 10_000);
    eventually("hart list knows the release", hart_e2e::DEADLINE, async || {
        let list = hart(&drill.cluster, leader, &["list", "ha"])?;
        ensure!(list.contains(&said) == early, "{version}:\n{list}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_switchover_loses_nothing_and_nobody_is_rewound() -> Result<()> {
    switched_over(false).await
}

#[tokio::test]
async fn so_does_one_in_synchronous_mode() -> Result<()> {
    switched_over(true).await
}

/// The slot that an old primary keeps for the new one has the `xmin` of its last feedback. Used by nobody, it held
/// rows back for ever, on the new primary, too.
#[tokio::test]
async fn after_a_switchover_no_idle_slot_holds_rows_back() -> Result<()> {
    let options = Options::default()
        .parameter("hot_standby_feedback", "on")
        .parameter("wal_receiver_status_interval", "1");
    let mut drill = Drill::with(&options).await?;
    let first = drill.write().await?;
    let second = drill.other_than(&first)?;
    let held = "SELECT count(*) FROM pg_replication_slots WHERE xmin IS NOT NULL";
    counts(&drill, &first, held, "2").await?;
    drill.cluster.switchover(Some(&second)).await?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, hart_e2e::DEADLINE).await?;
    counts(&drill, &first, &format!("{held} AND NOT active"), "0").await?;
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

async fn counts(drill: &Drill, node: &str, sql: &str, wanted: &str) -> Result<()> {
    let end = tokio::time::Instant::now() + hart_e2e::DEADLINE;
    loop {
        let got = drill.cluster.sql(node).await?.value(sql).await?;
        if got.as_deref() == Some(wanted) {
            return Ok(());
        }
        ensure!(tokio::time::Instant::now() < end, "{sql}: {got:?}\n{}", drill.logs());
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
}

/// A subscriber that is slow, and confirms. Before 19 a stop waits for it; the limit that 19 has cuts standbys off with it,
/// before they have the last record, unless they ask for none.
#[tokio::test]
async fn a_limit_for_slow_subscribers_leaves_the_next_leader_its_last_record() -> Result<()> {
    let options = Options::default().parameter("wal_sender_shutdown_timeout", "3s");
    let mut drill = Drill::with(&options).await?;
    let first = drill.write().await?;
    let publisher = drill.cluster.sql(&first).await?;
    let version = publisher.value("SHOW server_version_num").await?.context("no version")?;
    if version.parse::<u32>()? < 190_000 {
        eprintln!("PostgreSQL {version} has no such limit: nothing is tried");
        return drill.finish(Loss::None, &["wal_sender_shutdown_timeout"]).await.map(drop);
    }
    publisher.value("CREATE TABLE slow (i int PRIMARY KEY)").await?;
    publisher.value("CREATE PUBLICATION slow FOR TABLE slow").await?;
    let subscriber = subscribed(&drill, &first).await?;
    let begun = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'slow' AND state = 'streaming'";
    counts(&drill, &first, begun, "1").await?;
    for i in 0..300 {
        publisher.value(&format!("INSERT INTO slow VALUES ({i})")).await?;
    }
    let candidate = drill.other_than(&first)?;
    drill.cluster.switchover(Some(&candidate)).await?;
    drill.written().await?;
    let seen = Sql::connect(&subscriber.config()).await?.value("SELECT count(*) FROM slow").await?;
    ensure!(seen != Some("300".to_owned()), "the subscriber was not slow");
    drop(subscriber);
    let log = drill.cluster.node(&first)?.log();
    ensure!(
        log.contains("handing the lease over"),
        "the last record was not there\n{}",
        drill.logs()
    );
    let last = drill.finish(Loss::None, &[]).await?;
    ensure!(last == candidate, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// A server that applies ten rows a second.
async fn subscribed(drill: &Drill, to: &str) -> Result<Postgres> {
    let server = Postgres::start().await?;
    let sql = Sql::connect(&server.config()).await?;
    let node = drill.cluster.node(to)?.config();
    for statement in [
        "CREATE TABLE slow (i int PRIMARY KEY)".to_owned(),
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep(0.1); RETURN new; END'"
            .to_owned(),
        "CREATE TRIGGER slowly BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION slowly()"
            .to_owned(),
        "ALTER TABLE slow ENABLE ALWAYS TRIGGER slowly".to_owned(),
        format!(
            "CREATE SUBSCRIPTION slow CONNECTION 'host={} port={} user=postgres password=postgres \
             dbname=postgres' PUBLICATION slow",
            node.address, node.postgres_port
        ),
    ] {
        sql.value(&statement).await.with_context(|| statement.clone())?;
    }
    Ok(server)
}
