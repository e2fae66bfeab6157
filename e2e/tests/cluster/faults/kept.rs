//! A stream of WAL that breaks soon after a change of the primary. The replicas have everything, and
//! PostgreSQL's own records of their timeline still name the former one: nobody's data is touched.

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::until;

use crate::Drill;
use crate::drill::Loss;

/// In each replica's data directory; neither a base backup nor a rewind leaves it there.
const MARK: &str = "mark.of.this.test";
/// What the replicas and the primary may say.
const ANNOUNCED: &[&str] = &["gets no WAL from the leader", "compare timelines: ", "failsafe"];
/// So many comparisons are waited for; the first comes after 3 s.
const LOOKS: usize = 2;

/// What stops the stream, and what lets it go on.
#[derive(Clone, Copy)]
enum Break {
    Password,
    Peers,
    Port,
}

/// After a switchover to a named node, the stream from it breaks for all replicas at once.
async fn broken(synchronous: bool, how: Break) -> Result<()> {
    let mut drill = Drill::in_mode(synchronous).await?;
    let first = drill.write().await?;
    let candidate =
        if synchronous { drill.synchronous_standby().await? } else { drill.other_than(&first)? };
    drill.cluster.switchover(Some(&candidate)).await?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    if synchronous {
        drill.synchronous_standby().await?;
    }
    let replicas = mark(&drill, &candidate)?;
    let compared = looks(&drill, &replicas)?;
    begin(&drill, &candidate, how).await?;
    let enough = async || {
        let now = looks(&drill, &replicas).ok()?;
        now.iter().zip(&compared).all(|(now, before)| *now >= before + LOOKS).then_some(())
    };
    until("comparisons", DEADLINE, enough).await.with_context(|| drill.logs())?;
    end(&mut drill, &candidate, how).await?;
    let last = drill.finish(Loss::None, ANNOUNCED).await?;
    ensure!(last == candidate, "{last} leads\n{}", drill.logs());
    untouched(&drill, &replicas)
}

fn mark(drill: &Drill, primary: &str) -> Result<Vec<String>> {
    let others = drill.cluster.nodes().iter().filter(|node| node.name() != primary);
    others
        .map(|node| {
            std::fs::write(node.data_dir().join(MARK), "")?;
            Ok(node.name().to_owned())
        })
        .collect()
}

/// How often each of them has begun to compare its history with the leader's.
fn looks(drill: &Drill, replicas: &[String]) -> Result<Vec<usize>> {
    let of = |name: &String| {
        Ok(drill.cluster.node(name)?.log().matches("begin: compare timelines").count())
    };
    replicas.iter().map(of).collect()
}

fn untouched(drill: &Drill, replicas: &[String]) -> Result<()> {
    for name in replicas {
        let node = drill.cluster.node(name)?;
        ensure!(node.data_dir().join(MARK).exists(), "{name} was made anew\n{}", node.log());
        ensure!(!node.log_contains("begin: rewind"), "{name} was rewound\n{}", node.log());
        let copies = node.log().matches("begin: base backup").count();
        ensure!(copies <= 1, "{name} was copied\n{}", node.log());
    }
    Ok(())
}

async fn begin(drill: &Drill, primary: &str, how: Break) -> Result<()> {
    match how {
        Break::Password => {
            let sql = drill.cluster.sql(primary).await?;
            sql.value("alter role replicator password 'rotated'").await?;
            sql.value("select count(pg_terminate_backend(pid)) from pg_stat_replication").await?;
            Ok(())
        }
        Break::Peers => drill.cluster.part_from_peers(primary),
        Break::Port => drill.cluster.lab().close_port(&drill.cluster.host(primary)?, 5432),
    }
}

async fn end(drill: &mut Drill, primary: &str, how: Break) -> Result<()> {
    match how {
        Break::Password => {
            let sql = drill.cluster.sql(primary).await?;
            sql.value("alter role replicator password 'rep'").await?;
            Ok(())
        }
        Break::Peers | Break::Port => drill.cluster.mend().await,
    }
}

#[tokio::test]
async fn a_rotated_password_costs_no_replica_its_data() -> Result<()> {
    broken(false, Break::Password).await
}

#[tokio::test]
async fn a_primary_cut_off_from_its_peers_costs_no_replica_its_data() -> Result<()> {
    broken(false, Break::Peers).await
}

#[tokio::test]
async fn a_closed_port_costs_no_synchronous_standby_its_data() -> Result<()> {
    broken(true, Break::Port).await
}

/// What a replica's WAL receiver says when the leader has recycled a segment, and what says that WAL
/// does not fit. Whoever may log in can have them written into the log.
const WORDS: [&str; 2] = [
    "could not receive data from WAL stream: ERROR:  requested WAL segment \
     000000010000000000000001 has already been removed",
    "incorrect prev-link 0/3000060 at 0/30000A8",
];

#[tokio::test]
async fn what_somebody_writes_into_the_log_costs_no_replica_its_data() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replicas = mark(&drill, &primary)?;
    begin(&drill, &primary, Break::Password).await?;
    let replica = replicas.first().context("two replicas")?;
    let sql = drill.cluster.sql(replica).await?;
    until("the leader's word on the WAL", DEADLINE, async || {
        for words in WORDS {
            sql.value(&format!("do $$ begin raise log '{words}'; end $$")).await.ok()?;
        }
        drill.cluster.node(replica).ok()?.log_contains("has the WAL at").then_some(())
    })
    .await
    .with_context(|| drill.logs())?;
    end(&mut drill, &primary, Break::Password).await?;
    let last = drill.finish(Loss::None, ANNOUNCED).await?;
    ensure!(last == primary, "{last} leads\n{}", drill.logs());
    untouched(&drill, &replicas)
}
