//! `postgresql.callbacks`, as Patroni calls them.

use anyhow::{Context, Result, ensure};
use hart_e2e::{DEADLINE, Local, line_after, named};
use hart_testkit::{LocalNode, Rest, eventually};
use serde_json::json;

use crate::{lines, script, told, with};

const EVENTS: [&str; 5] = ["on_start", "on_stop", "on_restart", "on_reload", "on_role_change"];

/// All five events go into `called` in the node's home.
fn noted(node: &LocalNode) -> Result<String> {
    let called = node.home().join("called");
    let text = format!("echo \"$@\" >> {}; echo noted by \"$0\"", called.display());
    let command = script(node, "note.sh", &text)?;
    let entry = |event: &&str| format!("    {event}: {command} --of 'a b'\n");
    let entries: String = EVENTS.iter().map(entry).collect();
    Ok(with(node, &format!("  callbacks:\n{entries}")))
}

/// Waits until the node's calls are these, without reloads, which nobody counts.
async fn called(local: &Local, name: &str, wanted: &[&str]) -> Result<()> {
    let wanted: Vec<_> = wanted.iter().map(|call| format!("--of a b {call} ha")).collect();
    let node = local.node(name)?;
    let found = eventually("the calls", DEADLINE, async || {
        let mut calls = lines(node, "called");
        calls.retain(|call| !call.contains("on_reload"));
        ensure!(calls == wanted, "{calls:?}, not {wanted:?}");
        Ok(())
    });
    found.await.with_context(|| local.logs())
}

#[tokio::test]
async fn each_event_is_told_once_with_its_role() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    let yaml = noted(local.node("n1")?)?;
    local.node_mut("n1")?.start_with(&yaml)?;
    local.wait_healthy(1).await?;
    called(&local, "n1", &["on_start primary"]).await?;
    let yaml = noted(local.node("n2")?)?;
    local.node_mut("n2")?.start_with(&yaml)?;
    local.wait_healthy(2).await?;
    called(&local, "n2", &["on_start replica"]).await?;

    let parameters = json!({"postgresql": {"parameters": {"work_mem": "5MB"}}});
    let rest = Rest::new()?;
    let answer = rest.call("PATCH", &local.node("n1")?.url("/config"), Some(&parameters)).await?;
    ensure!(answer.ok(), "{}", answer.text);
    for (name, role) in [("n1", "primary"), ("n2", "replica")] {
        let reloaded = format!("--of a b on_reload {role} ha");
        eventually("a reload", DEADLINE, async || {
            let calls = lines(local.node(name)?, "called");
            ensure!(calls.contains(&reloaded), "{calls:?}");
            Ok(())
        })
        .await?;
    }

    let (status, text) = local.post("n2", "/restart", &json!({})).await?;
    ensure!(status == 200, "{text}");
    called(&local, "n2", &["on_start replica", "on_restart replica"]).await?;

    local.wait_healthy(2).await?;
    let to = json!({"leader": "n1", "candidate": "n2"});
    let (status, text) = local.post("n1", "/switchover", &to).await?;
    ensure!(status == 200, "{text}");
    let demoted = ["on_start primary", "on_stop primary", "on_role_change replica"];
    called(&local, "n1", &demoted).await?;
    let promoted = ["on_start replica", "on_restart replica", "on_role_change primary"];
    called(&local, "n2", &promoted).await?;

    // An agent that goes alone leaves PostgreSQL running; its successor tells of what it finds.
    let n1 = local.node_mut("n1")?;
    n1.kill_agent();
    let yaml = noted(local.node("n1")?)?;
    local.node_mut("n1")?.start_with(&yaml)?;
    called(&local, "n1", &[demoted.as_slice(), &["on_start replica"]].concat()).await?;
    local.wait_healthy(2).await?;

    // An orderly stop waits for the last call.
    local.node_mut("n2")?.stop()?;
    let left = lines(local.node("n2")?, "called");
    assert_eq!(left.last().map(String::as_str), Some("--of a b on_stop primary ha"), "{left:?}");
    called(&local, "n1", &[&demoted[..], &["on_start replica", "on_role_change primary"]].concat())
        .await?;
    let journal = told(local.node("n1")?).await?;
    let promotion = journal.last().context("no events of hooks")?;
    assert!(promotion.starts_with("on_role_change primary: /bin/sh ended after"), "{promotion}");
    assert!(promotion.contains("noted by"), "{promotion}");
    Ok(())
}

/// A role that has changed twice is told as it is now, and nobody has waited.
#[tokio::test]
async fn bad_callbacks_delay_nothing_and_are_named() -> Result<()> {
    let mut local = Local::prepare(&["n1", "n2"]).await?;
    let n1 = local.node("n1")?;
    let plain = n1.home().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n")?;
    let yaml = with(
        n1,
        &format!(
            "  callbacks:\n    on_start: /nonexistent/told --password geheim\n    on_reload: {}\n",
            plain.display()
        ),
    );
    local.node_mut("n1")?.start_with(&yaml)?;
    local.wait_healthy(1).await?;
    let n1 = local.node("n1")?;
    line_after(n1, 0, "on_start primary: /nonexistent/told could not be run: No such file").await?;
    local.node_mut("n1")?.agent()?.signal(rustix::process::Signal::HUP)?;
    line_after(local.node("n1")?, 0, "could not be run: Permission denied").await?;

    let n2 = local.node("n2")?;
    let loud = script(n2, "loud.sh", "yes 'a line' | head -c 2000000; echo the end; exit 7")?;
    let hangs = format!("cd {}; trap '' TERM; echo begun; sleep 6000", n2.home().display());
    let hangs = script(n2, "hangs.sh", &hangs)?;
    let mut yaml =
        with(n2, &format!("  callbacks:\n    on_start: {loud}\n    on_role_change: {hangs}\n"));
    yaml.push_str("hooks: {callback_timeout: 5}\n");
    local.node_mut("n2")?.start_with(&yaml)?;
    local.wait_healthy(2).await?;
    line_after(local.node("n2")?, 0, "with exit status: 7: ").await?;
    let to = json!({"leader": "n1", "candidate": "n2"});
    let (status, text) = local.post("n1", "/switchover", &to).await?;
    ensure!(status == 200, "{text}");
    assert_eq!(local.wait_healthy(2).await?, "n2");
    line_after(local.node("n2")?, 0, "was killed: it did not end within 5s: begun").await?;

    let all = told(local.node("n2")?).await?;
    assert!(all[0].ends_with("the end") && all[0].len() < 700, "{all:?}");
    assert!(all[1].starts_with("on_role_change primary: /bin/sh was killed"), "{all:?}");
    assert!(!local.logs().contains("geheim"), "arguments may hold a password");
    let left = named("sleep", &local.node("n2")?.processes());
    assert!(left.is_empty(), "the whole group was killed: {left:?}");
    Ok(())
}
