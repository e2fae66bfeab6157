//! Three nodes from nothing, as others see them: Consul's keys, REST, the service, the commands.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Cluster, Options, eventually};
use serde_json::Value;

use crate::drill::Loss;
use crate::program::hart;
use crate::{Drill, keys};

#[tokio::test]
async fn three_nodes_from_nothing() -> Result<()> {
    let options = Options { consul_agents: true, ..Options::default() };
    let mut drill = Drill::with(&options).await?;
    let first = drill.write().await?;
    stored(&mut drill.cluster, &first).await?;
    answers(&drill.cluster, &first).await?;
    in_service(&mut drill.cluster, &first).await?;
    let second = commands(&mut drill, &first).await?;
    in_service(&mut drill.cluster, &second).await?;
    answers(&drill.cluster, &second).await?;
    history(&mut drill.cluster, &second).await?;
    let last = drill.finish(Loss::None, &[THROWN_AWAY]).await?;
    ensure!(last == second, "{last} leads\n{}", drill.logs());
    Ok(())
}

/// The layout of Patroni, which other programs read.
async fn stored(cluster: &mut Cluster, primary: &str) -> Result<()> {
    let sql = cluster.sql(primary).await?;
    let identifier = sql.value("select system_identifier from pg_control_system()").await?;
    let consul = cluster.consul();
    let found = keys::all(consul).await?;
    for key in ["config", "failsafe", "initialize", "leader", "status"] {
        ensure!(found.contains(key), "no {key}: {found:?}");
    }
    ensure!(keys::raw(consul, "leader").await? == primary);
    ensure!(Some(keys::raw(consul, "initialize").await?) == identifier);
    let owner = keys::session(consul, "leader").await?;
    ensure!(
        owner.is_some() && owner == keys::session(consul, &format!("members/{primary}")).await?
    );

    let status = keys::json(consul, "status").await?;
    ensure!(status["optime"].as_u64().is_some_and(|optime| optime > 0), "{status}");
    let lease = &status["lease"];
    ensure!(lease["holder"] == primary && lease["state"] == "held", "{status}");
    ensure!(lease["ttl_ms"] == 3000 && lease["term"].is_u64() && lease["beat"].is_u64());
    let config = keys::json(consul, "config").await?;
    ensure!(config["ttl"] == 3 && config["loop_wait"] == 1, "{config}");
    ensure!(config["postgresql"]["parameters"]["max_connections"] == 50, "{config}");
    let failsafe = keys::json(consul, "failsafe").await?;
    ensure!(failsafe.as_object().is_some_and(|members| members.len() == 3), "{failsafe}");
    members(cluster, primary).await
}

async fn members(cluster: &mut Cluster, primary: &str) -> Result<()> {
    let nodes = cluster.nodes().iter().map(|n| (n.name().to_owned(), n.config().address));
    let nodes: BTreeMap<_, _> = nodes.collect();
    for (name, address) in nodes {
        let member = keys::json(cluster.consul(), &format!("members/{name}")).await?;
        let role = if name == primary { "primary" } else { "replica" };
        ensure!(member["conn_url"] == format!("postgres://{address}:5432/postgres"), "{member}");
        ensure!(member["api_url"] == format!("http://{address}:8008/patroni"), "{member}");
        ensure!(member["state"] == "running" && member["role"] == role, "{member}");
        ensure!(member["timeline"].is_u64() && member["xlog_location"].is_u64(), "{member}");
        // Below this Patroni's readers expect another layout.
        let version = member["version"].as_str().context("no version")?;
        let major: u32 = version.split('.').next().context("no major version")?.parse()?;
        ensure!(major >= 3, "{member}");
        if name != primary {
            ensure!(member["receive_lsn"].is_u64() && member["replay_lsn"].is_u64(), "{member}");
            ensure!(member["replication_state"] == "streaming", "{member}");
        }
    }
    Ok(())
}

/// Path, status of a primary, status of a replica that replicates asynchronously.
const CHECKS: [(&str, u16, u16); 20] = [
    ("/", 200, 503),
    ("/primary", 200, 503),
    ("/master", 200, 503),
    ("/read-write", 200, 503),
    ("/leader", 200, 503),
    ("/standby-leader", 503, 503),
    ("/replica", 503, 200),
    ("/replica?lag=1GB", 503, 200),
    ("/replica?tag_absent=1", 503, 503),
    ("/read-only", 200, 200),
    ("/sync", 503, 503),
    ("/read-only-sync", 200, 503),
    ("/async", 503, 200),
    ("/health", 200, 200),
    ("/liveness", 200, 200),
    ("/readiness", 200, 200),
    ("/patroni", 200, 200),
    ("/cluster", 200, 200),
    ("/history", 200, 200),
    ("/config", 200, 200),
];

async fn answers(cluster: &Cluster, primary: &str) -> Result<()> {
    // A fresh copy streams before it has replayed what it was given.
    eventually("every node ready", DEADLINE, async || {
        for node in cluster.nodes() {
            let answer = cluster.rest(node.name(), "GET", "/readiness", None).await?;
            ensure!(answer.status == 200, "{}: {answer:?}", node.name());
        }
        Ok(())
    })
    .await?;
    for node in cluster.nodes() {
        let name = node.name();
        for (path, leads, follows) in CHECKS {
            let expected = if name == primary { leads } else { follows };
            for method in ["GET", "HEAD", "OPTIONS"] {
                let answer = cluster.rest(name, method, path, None).await?;
                let bare = method == "GET" || answer.text.is_empty();
                ensure!(
                    answer.status == expected && bare,
                    "{method} {path} of {name} ({primary} leads): {answer:?}, not {expected}"
                );
            }
        }
        ensure!(cluster.rest(name, "GET", "/nonsense", None).await?.status == 503);
    }
    let seen = cluster.rest(primary, "GET", "/cluster", None).await?.json()?;
    let roles = seen["members"].as_array().context("no members")?.iter();
    let leaders: Vec<_> = roles.filter(|member| member["role"] == "leader").collect();
    ensure!(leaders.len() == 1 && leaders[0]["name"] == primary, "{seen}");
    Ok(())
}

/// Every member is in the catalogue with its role and passes the check that Consul itself makes.
async fn in_service(cluster: &mut Cluster, primary: &str) -> Result<()> {
    let consul = cluster.consul();
    eventually("every member in the service with its role", DEADLINE, async || {
        let members = keys::members_in_service(consul).await?;
        ensure!(members.len() == 3, "{members:?}");
        for (name, tags) in &members {
            let (has, lacks) =
                if name == primary { ("primary", "replica") } else { ("replica", "primary") };
            ensure!(tags.contains(has) && !tags.contains(lacks), "{primary} leads: {members:?}");
        }
        Ok(())
    })
    .await
}

/// The commands, run on the replica's host; the primary that they made.
async fn commands(drill: &mut Drill, primary: &str) -> Result<String> {
    let cluster = &drill.cluster;
    let replica = drill.other_than(primary)?;
    let listed: Vec<Value> =
        serde_json::from_str(&hart(cluster, &replica, &["list", "ha", "-f", "json"])?)?;
    let leader = listed.iter().find(|member| member["Role"] == "Leader").context("no leader")?;
    ensure!(listed.len() == 3 && leader["Member"] == primary, "{listed:?}");
    ensure!(listed.iter().all(|m| m["TL"] == 1 && m["Cluster"] == "ha"), "{listed:?}");

    let dsn = hart(cluster, &replica, &["dsn", "ha"])?;
    for node in cluster.nodes() {
        ensure!(dsn.contains(&node.config().address.to_string()), "{dsn}");
    }
    ensure!(dsn.contains("target_session_attrs=read-write"), "{dsn}");
    connects(drill, &dsn, primary).await?;
    let file = drill.cluster.node(&replica)?.config_file();
    let checked = hart(&drill.cluster, &replica, &["check", &file.to_string_lossy()])?;
    ensure!(checked.contains("0 failed"), "{checked}");

    let said =
        hart(&drill.cluster, &replica, &["switchover", "ha", "--candidate", &replica, "--force"])?;
    ensure!(said.contains("Successfully switched over"), "{said}");
    drill.written().await?;
    drill.pause()?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    restarted(drill, &replica, primary).await?;
    Ok(replica)
}

/// The string of `hart dsn` leads to the primary.
async fn connects(drill: &Drill, dsn: &str, primary: &str) -> Result<()> {
    // tokio-postgres knows fewer keepalive options than libpq.
    let known = dsn.split_whitespace().filter(|word| {
        ["host", "port", "dbname", "target_session_attrs", "connect_timeout"]
            .contains(&word.split('=').next().unwrap_or_default())
    });
    let text = known.collect::<Vec<_>>().join(" ");
    let mut config: tokio_postgres::Config = text.parse().with_context(|| text.clone())?;
    config.user("postgres").password("postgres");
    let sql = hart_testkit::Sql::connect(&config).await?;
    let address = sql.value("select host(inet_server_addr())").await?;
    let expected = drill.cluster.node(primary)?.config().address.to_string();
    ensure!(address == Some(expected), "{address:?}");
    Ok(())
}

/// What is said before data goes.
const THROWN_AWAY: &str = "is thrown away and copied anew from";

/// PostgreSQL of the primary and of the replica is restarted, the replica made anew.
async fn restarted(drill: &Drill, primary: &str, replica: &str) -> Result<()> {
    let cluster = &drill.cluster;
    for name in [primary, replica] {
        let before = cluster.node(name)?.postmaster();
        let said = hart(cluster, replica, &["restart", "ha", name, "--force"])?;
        let after = cluster.node(name)?.postmaster();
        ensure!(after.is_some() && after != before, "not restarted: {said}\n{}", drill.logs());
        ensure!(cluster.wait_healthy(3, DEADLINE).await? == primary, "\n{}", drill.logs());
    }
    hart(cluster, primary, &["reinit", "ha", replica, "--force", "--wait"])?;
    let copies = cluster.node(replica)?.log().matches("base backup: done").count();
    ensure!(copies >= 1, "not copied\n{}", cluster.node(replica)?.log());
    let said = cluster.node(replica)?.log().matches(THROWN_AWAY).count();
    ensure!(said == 1, "said {said} times\n{}", cluster.node(replica)?.log());
    ensure!(cluster.wait_healthy(3, DEADLINE).await? == primary, "\n{}", drill.logs());
    Ok(())
}

/// The first timeline's end, who made the second one, and the same over REST.
async fn history(cluster: &mut Cluster, primary: &str) -> Result<()> {
    let stored = keys::json(cluster.consul(), "history").await?;
    let line = &stored[0];
    ensure!(line[0] == 1 && line[1].is_u64() && line[2].is_string(), "{stored}");
    ensure!(line[3].as_str().is_some_and(|time| time.contains('T')), "{stored}");
    ensure!(line[4] == primary, "{stored}");
    let answered = cluster.rest(primary, "GET", "/history", None).await?.json()?;
    ensure!(answered == stored, "{answered} is not {stored}");
    Ok(())
}
