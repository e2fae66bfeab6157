//! A promotion that replay holds up: it waits for a session on the standby that is to lead, and
//! `max_standby_streaming_delay` says for ever.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, Sql, eventually};
use tokio::task::JoinHandle;

/// Two nodes, of which the second has a table of the first.
struct Held {
    cluster: Cluster,
    primary: String,
    heir: String,
}

impl Held {
    async fn start() -> Result<Self> {
        let options = Options::default()
            .parameter("max_standby_streaming_delay", "-1")
            .parameter("hot_standby_feedback", "off")
            .parameter("autovacuum", "off");
        let cluster = Cluster::start(2, &options).await?;
        let primary = cluster.wait_healthy(2, DEADLINE).await?;
        let heir = cluster.nodes().iter().map(|node| node.name()).find(|name| *name != primary);
        let heir = heir.context("two nodes")?.to_owned();
        let held = Self { cluster, primary, heir };
        held.at_primary("create table t as select generate_series(1, 1000) i").await?;
        held.at_primary("create table later (i int)").await?;
        eventually("the tables", DEADLINE, async || {
            let sql = held.cluster.sql(&held.heir).await?;
            let there = sql.value("select to_regclass('later') is not null").await?;
            ensure!(there.as_deref() == Some("t"), "not yet");
            Ok(())
        })
        .await?;
        Ok(held)
    }

    async fn at_primary(&self, sql: &str) -> Result<()> {
        self.cluster.sql(&self.primary).await?.value(sql).await.map(drop)
    }

    /// A session of a report, in a transaction that has read the table.
    async fn reads(&self) -> Result<Sql> {
        let mut config = self.cluster.node(&self.heir)?.sql_config();
        config.application_name("report");
        let sql = Sql::connect(&config).await?;
        sql.value("begin isolation level repeatable read").await?;
        sql.value("select count(*) from t").await?;
        Ok(sql)
    }

    /// Replay of this waits for it, and a row comes behind it.
    async fn held_up_by(&self, change: &[&str], event: &str) -> Result<()> {
        for sql in change {
            self.at_primary(sql).await?;
        }
        self.at_primary("insert into later values (1)").await?;
        let sql = self.cluster.sql(&self.primary).await?;
        let end = sql.value("select pg_current_wal_flush_lsn()").await?.context("a position")?;
        eventually("replay to wait", DEADLINE, async || {
            let sql = self.cluster.sql(&self.heir).await?;
            let look = format!(
                "select wait_event || ' ' || (pg_last_wal_receive_lsn() >= '{end}') \
                 from pg_stat_activity where backend_type = 'startup'"
            );
            let waits = sql.value(&look).await?;
            ensure!(waits.as_deref() == Some(&format!("{event} true")), "{waits:?}");
            Ok(())
        })
        .await
    }

    /// The heir leads with everything that it had received, and says whose session was in the way.
    async fn promoted(&mut self, what: &str) -> Result<()> {
        self.cluster.kill_node(&self.primary)?;
        let leads = self.cluster.wait_new_primary(&self.primary, DEADLINE).await?;
        ensure!(leads == self.heir, "{leads} leads");
        let sql = self.cluster.sql(&leads).await?;
        let rows = sql.value("select count(*) from later").await?;
        ensure!(rows.as_deref() == Some("1"), "{rows:?}");
        let node = self.cluster.node(&leads)?;
        let said = node.log();
        let lines: Vec<_> =
            said.lines().filter(|line| line.contains("the promotion waits for")).collect();
        let told = lines.iter().any(|line| {
            ["WARN", "role postgres", "application \"report\"", what]
                .iter()
                .all(|word| line.contains(word))
        });
        ensure!(told, "{lines:#?}\n{}", self.cluster.logs());
        eventually("the setting as it was", DEADLINE, async || {
            let sql = self.cluster.sql(&leads).await?;
            let delay = sql.value("show max_standby_streaming_delay").await?;
            ensure!(delay.as_deref() == Some("-1"), "{delay:?}");
            Ok(())
        })
        .await?;
        let announced = ["the promotion waits for process", "taking the lease of term"];
        let unexpected = node.unexpected_lines(&announced);
        ensure!(unexpected.is_empty(), "{unexpected:#?}");
        self.cluster.revive_node(&self.primary).await?;
        self.cluster.wait_healthy(2, DEADLINE).await.map(drop)
    }
}

fn sleeps(sql: Sql) -> JoinHandle<String> {
    tokio::spawn(async move {
        let ended = sql.client().simple_query("select pg_sleep(3600)").await;
        ended.err().map_or_else(|| "it ended well".to_owned(), |error| format!("{error:?}"))
    })
}

#[tokio::test]
async fn a_promotion_ends_the_session_whose_rows_are_to_be_removed() -> Result<()> {
    let mut held = Held::start().await?;
    let report = held.reads().await?;
    let change = ["delete from t where i < 900", "vacuum t"];
    held.held_up_by(&change, "RecoveryConflictSnapshot").await?;
    // It sees the rows as they are now, and nothing waits for it.
    let other = held.reads().await?;
    held.promoted("its session is ended").await?;
    ensure!(report.value("select 1").await.is_err(), "it goes on");
    let rows = other.value("select count(*) from t").await?;
    ensure!(rows.as_deref() == Some("101"), "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn a_promotion_cancels_the_query_whose_table_is_to_be_altered() -> Result<()> {
    let mut held = Held::start().await?;
    let report = sleeps(held.reads().await?);
    held.held_up_by(&["alter table t add column j int"], "relation").await?;
    held.promoted("its query is cancelled").await?;
    let error = report.await?;
    ensure!(error.contains("57014"), "{error}");
    Ok(())
}
