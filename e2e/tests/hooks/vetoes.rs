//! `postgresql.pre_promote` and `postgresql.before_stop`.

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, line_after};
use hart_testkit::{eventually, until};
use serde_json::json;

use crate::{lines, script, told, with};

#[tokio::test]
async fn a_veto_gives_the_lease_back_and_another_node_leads() -> Result<()> {
    one_vetoes(false).await
}

/// Who is about to be promoted enters itself as the only one that may lead: not before it may.
#[tokio::test]
async fn so_it_does_in_synchronous_mode() -> Result<()> {
    one_vetoes(true).await
}

/// Both standbys are published.
async fn are_published(local: &Local) -> Result<()> {
    let found = eventually("two synchronous standbys", DEADLINE, async || {
        let sync = local.key("sync").await?;
        ensure!(sync.contains("n2") && sync.contains("n3"), "{sync}");
        Ok(())
    });
    found.await.with_context(|| local.logs())
}

async fn one_vetoes(synchronous: bool) -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2", "n3"]).await?;
    let n1 = local.node_mut("n1")?;
    n1.config_mut().dcs("synchronous_mode", synchronous.into());
    n1.config_mut().dcs("synchronous_node_count", 2.into());
    n1.start()?;
    local.wait_healthy(1).await?;
    for name in ["n2", "n3"] {
        let node = local.node(name)?;
        let (asked, verdict) = (node.home().join("asked"), node.home().join("verdict"));
        let text = format!(
            "echo asked >> {}; echo said by {name}; exec sh {}",
            asked.display(),
            verdict.display()
        );
        let command = script(node, "fence.sh", &text)?;
        std::fs::write(&verdict, if name == "n2" { "exit 5\n" } else { "exit 0\n" })?;
        let yaml = with(node, &format!("  pre_promote: {command}\n"));
        // n2 is the better candidate, until it vetoes.
        let yaml = yaml.replace(
            "tags:\n",
            &format!(
                "tags:\n  failover_priority: {}\n",
                match name {
                    "n2" => 9,
                    _ => 1,
                }
            ),
        );
        local.node_mut(name)?.start_with(&yaml)?;
    }
    local.wait_healthy(3).await?;
    if synchronous {
        are_published(&local).await?;
    }
    assert!(lines(local.node("n2")?, "asked").is_empty(), "nobody was to be promoted");
    local.node_mut("n1")?.kill_all()?;
    until("a new primary", DEADLINE, async || {
        local.primary().await.ok().filter(|name| name == "n3").map(drop)
    })
    .await
    .with_context(|| local.logs())?;
    let n2 = local.node("n2")?;
    assert!(n2.log_contains("pre_promote: /bin/sh ended after"), "{}", n2.log());
    assert!(n2.log_contains("with exit status: 5: said by n2"), "{}", n2.log());
    assert!(n2.log_contains("pre_promote vetoes the promotion"), "{}", n2.log());
    assert!(!n2.log_contains("PostgreSQL was told to promote"), "{}", n2.log());
    assert!(told(n2).await?.iter().any(|text| text.starts_with("pre_promote: ")));
    assert!(!lines(local.node("n3")?, "asked").is_empty());

    // The veto ends with a ttl: by then the node may lead, if its program lets it.
    std::fs::write(n2.home().join("verdict"), "exit 0\n")?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(3).await?;
    let to = json!({"leader": "n3", "candidate": "n2"});
    until("a switchover to n2", DEADLINE, async || {
        let answer = local.post("n3", "/switchover", &to).await.ok()?;
        (answer.0 == 200).then_some(())
    })
    .await
    .with_context(|| local.logs())?;
    assert_eq!(local.wait_healthy(3).await?, "n2");
    Ok(())
}

#[tokio::test]
async fn a_program_that_hangs_is_a_veto_and_the_only_node_asks_again() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    local.node_mut("n1")?.start()?;
    local.wait_healthy(1).await?;
    let n2 = local.node("n2")?;
    let once = n2.home().join("once");
    let text = format!("test -e {0} && exit 0; touch {0}; sleep 6000", once.display());
    let command = script(n2, "fence.sh", &text)?;
    let mut yaml = with(n2, &format!("  pre_promote: {command}\n"));
    yaml.push_str("hooks: {pre_promote_timeout: 2}\n");
    local.node_mut("n2")?.start_with(&yaml)?;
    local.wait_healthy(2).await?;
    local.node_mut("n1")?.kill_all()?;
    line_after(local.node("n2")?, 0, "was killed: it did not end within 2s").await?;
    until("a primary", DEADLINE, async || local.primary().await.ok())
        .await
        .with_context(|| local.logs())?;
    assert_eq!(local.primary().await?, "n2");
    Ok(())
}

#[tokio::test]
async fn a_stop_waits_for_before_stop_and_no_longer_than_it_may() -> Result<()> {
    let mut local = Local::prepare(&["n1"]).await?;
    let n1 = local.node("n1")?;
    let (ran, hang) = (n1.home().join("ran"), n1.home().join("hang"));
    let text = format!(
        "psql -w -h {} -p {} -U postgres -d postgres -Atc 'select 4711' >> {}; \
         if test -e {}; then sleep 6000; fi; exit 3",
        n1.home().display(),
        n1.config().postgres_port,
        ran.display(),
        hang.display()
    );
    let command = script(n1, "before.sh", &text)?;
    let mut yaml = with(n1, &format!("  before_stop: {command}\n"));
    yaml.push_str("hooks: {before_stop_timeout: 3}\n");
    local.node_mut("n1")?.start_with(&yaml)?;
    local.wait_healthy(1).await?;
    let (status, text) = local.post("n1", "/restart", &json!({})).await?;
    ensure!(status == 200, "{text}");
    local.wait_healthy(1).await?;
    assert_eq!(lines(local.node("n1")?, "ran"), ["4711"], "it ran while PostgreSQL did");
    line_after(local.node("n1")?, 0, "before_stop: /bin/sh ended after").await?;

    std::fs::write(&hang, "")?;
    local.node_mut("n1")?.stop()?;
    let n1 = local.node("n1")?;
    assert!(n1.log_contains("before_stop: /bin/sh was killed: it did not end"), "{}", n1.log());
    assert_eq!(lines(n1, "ran"), ["4711", "4711"]);
    Ok(())
}
