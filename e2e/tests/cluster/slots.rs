//! Permanent replication slots: their consumers lose nothing when the leader changes.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, Process, TempDir, bin_dir, eventually, until};
use rustix::process::Signal;
use serde_json::json;

/// Somebody who archives the WAL of whoever leads, by the slot `archive`.
struct Receiver {
    dir: TempDir,
    segments: PathBuf,
}

impl Receiver {
    fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        let segments = dir.path().join("wal");
        fs::create_dir(&segments)?;
        Ok(Self { dir, segments })
    }

    /// Receives from the leader until all that it has written by now is here, and leaves.
    async fn catch_up(&self, cluster: &Cluster) -> Result<()> {
        let leader = cluster.primary().await?;
        let sql = cluster.sql(&leader).await?;
        let last = "SELECT pg_walfile_name(pg_current_wal_lsn())";
        let last = sql.value(last).await?.context("no WAL")?;
        let end = sql.value("SELECT pg_switch_wal()").await?.context("no position")?;
        let address = cluster.host(&leader)?.address().to_string();
        let mut command = Command::new(bin_dir()?.join("pg_receivewal"));
        command.args(["-h", &address, "-U", "replicator", "-S", "archive", "-s", "1", "-D"]);
        command.arg(&self.segments).env("PGPASSWORD", "rep");
        let log = self.dir.path().join("log");
        let mut receiver = Process::start(&mut command, &log)?;
        let there = eventually("the WAL", DEADLINE, async || {
            ensure!(self.segments.join(&last).exists(), "{last} of {leader} is not here");
            let moved = format!(
                "SELECT '{end}' <= restart_lsn FROM pg_replication_slots WHERE slot_name = 'archive'"
            );
            ensure!(sql.value(&moved).await?.as_deref() == Some("t"), "the slot has not moved");
            Ok(())
        });
        there.await.with_context(|| format!("{}\n{:?}", receiver.log(), self.names()))?;
        ensure!(!receiver.log().contains("already been removed"), "{}", receiver.log());
        // Killed while it makes its next file, it does not go on with that one.
        receiver.signal(Signal::INT)?;
        until("its end", DEADLINE, async || receiver.exit_status()).await.map(drop)
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.segments).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Whole segments, and none is missing.
    fn is_complete(&self) -> Result<usize> {
        let names = self.names();
        let whole = names.iter().filter(|name| name.len() == 24);
        let number = |name: &String| {
            let at = |range| u64::from_str_radix(name.get(range).unwrap_or_default(), 16);
            Ok(at(8..16)? * 256 + at(16..24)?)
        };
        let numbers: BTreeSet<u64> = whole.map(number).collect::<Result<_>>()?;
        let (first, last) = numbers.first().zip(numbers.last()).context("nothing was received")?;
        ensure!(last - first + 1 == numbers.len() as u64, "there are holes: {names:?}");
        Ok(numbers.len())
    }
}

/// Segments pass, and each server has removed what nobody holds.
async fn write_segments(cluster: &Cluster, count: usize) -> Result<()> {
    let leader = cluster.primary().await?;
    let sql = cluster.sql(&leader).await?;
    sql.value("CREATE TABLE IF NOT EXISTS public.t (i int)").await?;
    for _ in 0..count {
        sql.value("INSERT INTO public.t VALUES (1)").await?;
        sql.value("SELECT pg_switch_wal()").await?;
    }
    sql.value("CHECKPOINT").await?;
    let end = sql.value("SELECT pg_current_wal_lsn()").await?.context("no position")?;
    for node in cluster.nodes().iter().filter(|node| node.name() != leader) {
        let sql = cluster.sql(node.name()).await?;
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{end}'");
        is(cluster, node.name(), &replayed, "t").await?;
        sql.value("CHECKPOINT").await?;
    }
    Ok(())
}

async fn is(cluster: &Cluster, node: &str, sql: &str, wanted: &str) -> Result<()> {
    let seen = eventually(sql, DEADLINE, async || {
        let found = cluster.sql(node).await?.value(sql).await?;
        ensure!(found.as_deref() == Some(wanted), "{node}: {found:?}");
        Ok(())
    });
    seen.await.with_context(|| cluster.logs())
}

async fn is_everywhere(cluster: &Cluster, sql: &str, wanted: &str) -> Result<()> {
    for node in cluster.nodes() {
        is(cluster, node.name(), sql, wanted).await?;
    }
    Ok(())
}

const POSITION: &str = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'archive'";

async fn position(cluster: &Cluster, node: &str) -> Result<String> {
    cluster.sql(node).await?.value(POSITION).await?.context("there is no slot archive")
}

/// The replicas' slots have come to where the leader's is.
async fn is_followed(cluster: &Cluster) -> Result<String> {
    let at = position(cluster, &cluster.primary().await?).await?;
    is_everywhere(cluster, POSITION, &at).await?;
    Ok(at)
}

#[tokio::test]
async fn the_consumer_of_a_permanent_slot_misses_no_wal_by_a_switchover_or_a_lost_host()
-> Result<()> {
    let options = Options::default()
        .dcs("slots", json!({"archive": {"type": "physical"}}))
        .parameter("min_wal_size", "32MB");
    let mut cluster = Cluster::start(3, &options).await?;
    let first = cluster.wait_healthy(3, DEADLINE).await?;
    // Little more than the slots keeps WAL.
    let none = json!({"postgresql": {"parameters": {"wal_keep_size": "16MB"}}});
    cluster.rest(&first, "PATCH", "/config", Some(&none)).await?;
    is_everywhere(&cluster, "SHOW wal_keep_size", "16MB").await?;
    is_everywhere(
        &cluster,
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'archive'",
        "1",
    )
    .await?;
    let receiver = Receiver::new()?;
    receiver.catch_up(&cluster).await?;
    let begun = is_followed(&cluster).await?;

    // It is away meanwhile.
    write_segments(&cluster, 4).await?;
    cluster.switchover(None).await?;
    let second = cluster.wait_healthy(3, DEADLINE).await?;
    ensure!(second != first, "{first} leads still");
    write_segments(&cluster, 4).await?;
    ensure!(position(&cluster, &second).await? == begun, "the slot was moved for nobody");
    receiver.catch_up(&cluster).await?;
    ensure!(is_followed(&cluster).await? != begun, "the slot has not moved");
    receiver.is_complete()?;

    write_segments(&cluster, 4).await?;
    cluster.kill_node(&second)?;
    let third = cluster.wait_new_primary(&second, DEADLINE).await?;
    cluster.revive_node(&second).await?;
    cluster.wait_healthy(3, DEADLINE).await?;
    write_segments(&cluster, 4).await?;
    receiver.catch_up(&cluster).await?;
    ensure!(receiver.is_complete()? >= 12, "{:?}", receiver.names());
    is_followed(&cluster).await?;

    // A replica that was restarted has it still; and who leads says where the slots are.
    let replica = cluster.nodes().iter().map(|node| node.name()).find(|name| *name != third);
    let replica = replica.context("there are three nodes")?.to_owned();
    cluster.node_mut(&replica)?.stop()?;
    cluster.node_mut(&replica)?.start()?;
    cluster.wait_healthy(3, DEADLINE).await?;
    let at = is_followed(&cluster).await?;
    let status = cluster.consul_call("GET", "/v1/kv/service/ha/status?raw").await?;
    ensure!(status["slots"]["archive"].as_u64().is_some(), "{status}, {at}");

    // A wrong one is refused by its name, and one that is taken out is dropped everywhere.
    let wrong = json!({"slots": {"odd": {"type": "logical", "database": "a"}}});
    let answer = cluster.rest(&third, "PATCH", "/config", Some(&wrong)).await?;
    ensure!(answer.status == 400 && answer.text.starts_with("slots.odd: "), "{}", answer.text);
    cluster.rest(&third, "PATCH", "/config", Some(&json!({"slots": {"archive": null}}))).await?;
    is_everywhere(
        &cluster,
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'archive'",
        "0",
    )
    .await?;
    cluster.wait_healthy(3, DEADLINE).await?;
    Ok(())
}

/// From PostgreSQL 17 on; before, it is made on whoever leads, and said not to be brought along. Up to 18 the servers
/// must be told to decode; 19 begins with the first such slot by itself.
#[tokio::test]
async fn a_permanent_logical_slot_goes_on_where_it_was() -> Result<()> {
    let events = json!({"type": "logical", "database": "postgres", "plugin": "test_decoding"});
    let cluster = Cluster::start(3, &Options::default()).await?;
    let first = cluster.wait_healthy(3, DEADLINE).await?;
    let version = cluster.sql(&first).await?.value("SHOW server_version_num").await?;
    let version: u32 = version.context("no version")?.parse()?;
    let mut shared = json!({"slots": {"events": events}});
    if version < 190_000 {
        shared["postgresql"]["parameters"]["wal_level"] = "logical".into();
    }
    cluster.rest(&first, "PATCH", "/config", Some(&shared)).await?;
    let said = |text: &'static str| async {
        let seen = eventually(text, DEADLINE, async || {
            let leader = cluster.primary().await?;
            ensure!(cluster.node(&leader)?.log_contains(text), "{leader} does not say it");
            Ok(())
        });
        seen.await.with_context(|| cluster.logs())
    };
    for node in cluster.nodes().iter().filter(|_| version < 190_000) {
        said("wal_level is replica").await?;
        let changed = "SELECT pending_restart FROM pg_settings WHERE name = 'wal_level'";
        is(&cluster, node.name(), changed, "t").await?;
        cluster.rest(node.name(), "POST", "/restart", Some(&json!({}))).await?;
        is(&cluster, node.name(), "SHOW wal_level", "logical").await?;
    }
    let first = cluster.wait_healthy(3, DEADLINE).await?;
    let there = "SELECT plugin FROM pg_replication_slots WHERE slot_name = 'events'";
    is(&cluster, &first, there, "test_decoding").await?;
    let sql = cluster.sql(&first).await?;
    if version < 170_000 {
        return said("does not bring logical slots to standbys").await;
    }
    sql.value("CREATE TABLE public.t (i int)").await?;
    let mut seen = Vec::new();
    insert_and_consume(&cluster, &first, 0..5, &mut seen).await?;
    let brought = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'events' AND synced AND NOT temporary";
    for node in cluster.nodes().iter().filter(|node| node.name() != first) {
        is_brought(&cluster, &first, node.name(), brought).await?;
    }
    // It is away meanwhile.
    insert(&cluster, &first, 5..10).await?;
    cluster.switchover(None).await?;
    let second = cluster.wait_healthy(3, DEADLINE).await?;
    ensure!(second != first, "{first} leads still");
    insert_and_consume(&cluster, &second, 10..15, &mut seen).await?;
    let all: BTreeSet<i32> = seen.iter().copied().collect();
    ensure!(all == (0..15).collect(), "rows are missing: {seen:?}\n{}", cluster.logs());
    // The former leader's own slot would stop the synchronisation.
    is_brought(&cluster, &second, &first, brought).await
}

async fn insert(cluster: &Cluster, node: &str, rows: std::ops::Range<i32>) -> Result<()> {
    let sql = cluster.sql(node).await?;
    for row in rows {
        sql.value(&format!("INSERT INTO public.t VALUES ({row})")).await?;
    }
    Ok(())
}

async fn insert_and_consume(
    cluster: &Cluster,
    node: &str,
    rows: std::ops::Range<i32>,
    seen: &mut Vec<i32>,
) -> Result<()> {
    insert(cluster, node, rows).await?;
    let changes = "SELECT data FROM pg_logical_slot_get_changes('events', NULL, NULL)";
    for row in cluster.sql(node).await?.rows(changes).await? {
        let text = row.into_iter().next().flatten().unwrap_or_default();
        let value = text.strip_prefix("table public.t: INSERT: i[integer]:");
        seen.extend(value.map(str::parse::<i32>).transpose()?);
    }
    Ok(())
}

/// PostgreSQL's worker looks rarely at what does not move.
async fn is_brought(cluster: &Cluster, leader: &str, replica: &str, brought: &str) -> Result<()> {
    let seen = eventually("the slot is brought", DEADLINE * 2, async || {
        let sql = cluster.sql(leader).await?;
        sql.value("SELECT pg_log_standby_snapshot()").await?;
        let moves = "SELECT pg_replication_slot_advance('events', pg_current_wal_lsn())";
        sql.value(moves).await?;
        let found = cluster.sql(replica).await?.value(brought).await?;
        ensure!(found.as_deref() == Some("1"), "{replica}: {found:?}");
        Ok(())
    });
    seen.await.with_context(|| cluster.logs())
}
