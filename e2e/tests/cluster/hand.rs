//! The operator's commands, as patronictl has them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Host, TempDir, hart_binary};
use serde_json::Value;

use crate::Drill;
use crate::drill::Loss;
use crate::patronictl::{install, wait_until};

/// Where commands are run.
struct Hand {
    host: Host,
    consul: String,
}

impl Hand {
    fn at(drill: &mut Drill, node: &str) -> Result<Self> {
        let host = drill.cluster.node(node)?.host().context("it has a host")?.clone();
        Ok(Self { host, consul: format!("consul://{}/service", drill.cluster.consul().address()) })
    }

    /// The answers to its questions come through a pipe.
    fn hart(&self, arguments: &[&str], answers: &str) -> Result<Output> {
        let dir = TempDir::new()?;
        let input = dir.path().join("answers");
        std::fs::write(&input, answers)?;
        let mut command = Command::new(hart_binary()?);
        command.args(["-d", &self.consul]).args(arguments);
        self.host.output(command.stdin(Stdio::from(std::fs::File::open(input)?)))
    }
}

fn done(output: Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test]
async fn all_of_a_days_commands() -> Result<()> {
    // The hosts of a cluster have no way to a package index.
    let patronictl = install()?;
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let candidate = drill.other_than(&primary)?;
    let hand = Hand::at(&mut drill, &primary)?;
    let run = |arguments: &[&str]| hand.hart(arguments, "");

    ensure!(done(run(&["pause", "ha", "--wait"])?)?.contains("paused"));
    ensure!(done(run(&["list", "ha"])?)?.contains("Maintenance mode: on"));
    let again = run(&["pause", "ha"])?;
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(again.status.code() == Some(1) && why.contains("already paused"), "{why}");
    ensure!(done(run(&["resume", "ha", "--wait"])?)?.contains("resumed"));

    let changed = ["edit-config", "ha", "-s", "loop_wait=2", "-p", "work_mem=7MB", "--force"];
    let said = done(run(&changed)?)?;
    let shown = ["+loop_wait: 2", "+    work_mem: \"7MB\"", "Configuration changed"];
    ensure!(shown.iter().all(|line| said.contains(line)), "{said}");
    ensure!(done(run(&changed)?)?.contains("Not changed"));
    let settings = done(run(&["show-config", "ha"])?)?;
    ensure!(
        settings.contains("loop_wait: 2\n") && settings.contains("    work_mem: \"7MB\""),
        "{settings}"
    );
    let work_mem = async |node: &str| -> Result<String> {
        let sql = drill.cluster.sql(node).await?;
        Ok(sql.value("SHOW work_mem").await?.unwrap_or_default())
    };
    for node in [&primary, &candidate] {
        hart_testkit::eventually("the new parameter", DEADLINE, async || {
            let shown = work_mem(node).await?;
            ensure!(shown == "7MB", "work_mem is {shown} on {node}");
            Ok(())
        })
        .await?;
    }
    let refused = run(&["edit-config", "ha", "-p", "wrok_mem=7MB", "--force"])?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1) && why.contains("wrok_mem"), "{why}");

    let named = format!("--candidate={candidate}");
    let at = ["switchover", "ha", &named, "--scheduled", "2126-01-01T00:00:00Z", "--force"];
    done(run(&at)?)?;
    wait_until(|| Ok(done(run(&["list", "ha"])?)?.contains("2126"))).await?;
    done(run(&["flush", "ha", "switchover", "--force"])?)?;
    ensure!(!done(run(&["list", "ha"])?)?.contains("2126"));
    let at = ["restart", "ha", &candidate, "--scheduled", "2126-01-01T00:00:00Z", "--force"];
    done(run(&at)?)?;
    wait_until(|| Ok(done(run(&["list", "ha"])?)?.contains("2126"))).await?;
    done(run(&["flush", "ha", &candidate, "restart", "--force"])?)?;
    wait_until(|| Ok(!done(run(&["list", "ha"])?)?.contains("2126"))).await?;

    done(run(&["switchover", "ha", &named, "--force"])?)?;
    drill.written().await?;
    drill.cluster.wait_healthy(3, DEADLINE).await?;
    let tree = done(run(&["topology", "ha"])?)?;
    ensure!(tree.contains(&format!("| {candidate} ")) && tree.contains(&format!("| + {primary} ")));
    drill.pause()?;
    // Each column of patronictl's list has something in it.
    let wider = ["edit-config", "ha", "-q", "-p", "max_connections=61", "--force"];
    done(run(&wider)?)?;
    wait_until(|| Ok(done(run(&["list", "ha"])?)?.contains("Restart pending of n1, n2, n3")))
        .await?;
    let at = ["restart", "ha", &primary, "--scheduled", "2126-01-01T00:00:00Z", "--force"];
    done(run(&[&at[..], &["--pg-version", "99.0"]].concat())?)?;
    wait_until(|| Ok(done(run(&["list", "ha"])?)?.contains("2126"))).await?;
    if let Some(patronictl) = patronictl {
        like_patronictl(&hand, &patronictl, &primary).await?;
    }
    done(run(&["flush", "ha", &primary, "restart", "--force"])?)?;
    let restarted = done(run(&["restart", "ha", "--pending", "--timeout", "1min", "--force"])?)?;
    ensure!(restarted.matches("Success").count() == 3, "{restarted}");
    drill.finish(Loss::None, &[]).await?;
    Ok(())
}

/// What scripts read is the same as patronictl's.
async fn like_patronictl(hand: &Hand, patronictl: &Path, member: &str) -> Result<()> {
    let theirs = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new(patronictl);
        done(hand.host.output(command.args(["-d", &hand.consul]).args(arguments))?)
    };
    let ours = |arguments: &[&str]| done(hand.hart(arguments, "")?);
    for format in ["tsv", "json", "yaml"] {
        let history = ["history", "ha", "-f", format];
        let (theirs, ours) = (theirs(&history)?, ours(&history)?);
        ensure!(ours.len() > 20 && same(format, &theirs, &ours)?, "{format}: {theirs}\n{ours}");
    }
    // Positions are those of the moment: where they differ, the cluster was not at rest between the two.
    for format in ["tsv", "json", "yaml"] {
        let list = ["list", "ha", "-f", format];
        wait_until(|| same(format, &theirs(&list)?, &ours(&list)?))
            .await
            .with_context(|| format!("{format}: {:?}\n{:?}", theirs(&list), ours(&list)))?;
    }
    let tree = ["topology", "ha"];
    let first = |text: &str| -> Vec<String> {
        let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
        cells.map(|cell| cell.trim_end().to_owned()).collect()
    };
    ensure!(first(&theirs(&tree)?) == first(&ours(&tree)?), "{}", ours(&tree)?);
    // Both tables say where a member is reached.
    let dsn = ["dsn", "ha", "-m", member];
    let address = theirs(&dsn)?;
    ensure!(
        address.split_whitespace().all(|part| ours(&dsn).is_ok_and(|text| text.contains(part))),
        "{address}: {}",
        ours(&dsn)?
    );
    let versions = ours(&["version", "ha", member])?;
    ensure!(versions.lines().count() == 3 && versions.contains(member), "{versions}");
    // The order of keys is free in YAML, and so is the style.
    let settings = |text: String| hart_config::yaml_value("settings", &text);
    let show = ["show-config", "ha"];
    ensure!(settings(theirs(&show)?)? == settings(ours(&show)?)?, "{}", ours(&show)?);
    Ok(())
}

/// Do they say the same, as a script reads it?
fn same(format: &str, theirs: &str, ours: &str) -> Result<bool> {
    Ok(match format {
        "json" => {
            let read = |text: &str| serde_json::from_str::<Value>(text);
            read(theirs)? == read(ours)?
        }
        "yaml" => {
            // The reader takes a map, and the list is one of lists here.
            let read = |text: &str| {
                let lines = text.lines().map(|line| format!("  {line}\n")).collect::<String>();
                hart_config::yaml_value("list", &format!("all:\n{lines}"))
            };
            read(theirs)? == read(ours)?
        }
        _ => theirs == ours,
    })
}

/// It asks three times, and a wrong answer deletes nothing.
#[tokio::test]
async fn a_cluster_is_forgotten_by_whoever_knows_its_name_and_its_leader() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let hand = Hand::at(&mut drill, &primary)?;
    let run = |answers: &str| hand.hart(&["remove", "ha"], answers);
    for wrong in ["", "he\n", "ha\nyes\n", "ha\nYes I am aware\nnobody\n"] {
        let output = run(wrong)?;
        ensure!(output.status.code() == Some(1), "{wrong:?}: {output:?}");
    }
    done(hand.hart(&["list", "ha"], "")?)?;
    let said = done(run(&format!("ha\nYes I am aware\n{primary}\n"))?)?;
    ensure!(said.contains("everything below service/ha/ is deleted"), "{said}");
    Ok(())
}

/// What goes wrong at 3 a.m. at the latest: each has an answer that helps, and nobody waits for long.
#[tokio::test]
async fn what_is_not_there_is_said_and_what_there_is() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let hand = Hand::at(&mut drill, &primary)?;
    let fails = |arguments: &[&str], code: i32, words: &[&str]| -> Result<()> {
        let output = hand.hart(arguments, "")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let fits = words.iter().all(|word| said.contains(word));
        ensure!(output.status.code() == Some(code) && fits, "{arguments:?} {words:?}: {output:?}");
        ensure!(!said.contains("panicked"), "{said}");
        Ok(())
    };
    fails(&["list", "nowhere"], 1, &["no cluster \"nowhere\"", "there are: ha"])?;
    fails(&["why", &primary], 1, &["is a member of the cluster ha", "named first"])?;
    for command in ["why", "restart", "reload", "reinit", "version"] {
        let force = if ["why", "version"].contains(&command) { vec![] } else { vec!["--force"] };
        let all = [&[command, "ha", "n9"], force.as_slice()].concat();
        fails(&all, 1, &["no member \"n9\"", "n1, n2, n3"])?;
    }
    fails(&["switchover", "ha", "--candidate", "n9", "--force"], 1, &["no member \"n9\""])?;
    // Nobody sits there who could say yes.
    fails(&["switchover", "ha"], 64, &["no terminal to ask at", "--force"])?;
    fails(&["query", "ha", "-c", "SELECT 1", "--password"], 64, &["PGPASSWORD"])?;
    for time in ["2027-03-01T25:00:00Z", "soon", "2027-02-30"] {
        fails(&["restart", "ha", "--scheduled", time, "--force"], 64, &["is no time"])?;
    }
    fails(
        &["switchover", "ha", "--scheduled", "2020-01-01T00:00:00Z", "--force"],
        1,
        &["in the past"],
    )?;

    // Of two clusters one must be named; both can be.
    let other = drill.cluster.consul().url("/v1/kv/service/other/config");
    let (rest, empty) = (hart_testkit::Rest::new()?, serde_json::json!({}));
    ensure!(rest.call("PUT", &other, Some(&empty)).await?.ok());
    fails(&["list"], 64, &["which cluster? Consul has ha, other"])?;
    let both = done(hand.hart(&["list", "ha", "other"], "")?)?;
    ensure!(both.contains("Cluster: ha (") && both.contains("Cluster: other ("), "{both}");

    // A reader that goes away ends the command, and nothing else.
    let mut command = Command::new(hart_binary()?);
    command.args(["-d", &hand.consul, "events", "ha", "-n", "100000"]);
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = hand.host.output(command.stdout(Stdio::from(writer)))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && !said.contains("panicked"), "{output:?}");
    drill.finish(Loss::None, &[]).await.map(drop)
}

/// Consul is away: what the members themselves say is used, and that is said.
#[tokio::test]
async fn without_consul_the_members_are_asked() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let node = drill.cluster.node(&primary)?;
    let (host, file) = (node.host().context("it has a host")?.clone(), node.config_file());
    let run = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(hart_binary()?);
        command.arg("--config-file").arg(&file).args(arguments).stdin(Stdio::null());
        host.output(&mut command)
    };
    let before = done(run(&["dsn", "ha"])?)?;
    drill.cluster.kill_consul();
    drill.written().await?;
    let output = run(&["list", "ha", "-f", "json"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("Consul cannot be read") && said.contains("the members say"), "{said}");
    let rows: Vec<Value> = serde_json::from_str(&done(output)?)?;
    let role = |name: &str| rows.iter().find(|row| row["Member"] == name).map(|row| &row["Role"]);
    ensure!(rows.len() == 3 && role(&primary) == Some(&"Leader".into()), "{rows:?}");
    let streaming = rows.iter().filter(|row| row["State"] == "streaming").count();
    ensure!(streaming == 2, "{rows:?}");
    let why = done(run(&["why"])?)?;
    ensure!(why.contains(&format!("{primary}: leads")), "{why}");
    ensure!(done(run(&["events", "ha"])?)?.contains("writes are possible here"));
    ensure!(done(run(&["dsn"])?)? == before);
    ensure!(done(run(&["topology"])?)?.contains(&format!("| {primary} ")));
    // One of them is lost, too.
    let replica = drill.other_than(&primary)?;
    drill.cluster.kill_node(&replica)?;
    // Nobody leads then: who cannot be asked might.
    let silent = |text: &str| {
        let mut lines = text.lines().filter(|line| line.contains(&format!("| {replica} ")));
        lines.any(|line| line.contains("does not answer") || line.contains("lost since"))
    };
    wait_until(|| Ok(silent(&done(run(&["list"])?)?))).await?;
    // Whoever is at another machine than a node is told where to look.
    let (elsewhere, consul) = (hand_elsewhere(&mut drill)?, drill.cluster.consul().address());
    let mut command = Command::new(hart_binary()?);
    command.args(["-d", &format!("consul://{consul}/service"), "list", "ha"]);
    let output = elsewhere.output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("on a node of the cluster"), "{said}");
    drill.cluster.mend().await?;
    let announced = ["Consul", "lease", "failsafe", "PostgreSQL"];
    drill.finish(Loss::Some, &announced).await.map(drop)
}

fn hand_elsewhere(drill: &mut Drill) -> Result<Host> {
    drill.cluster.add_host("elsewhere")
}

/// Nobody leads, and in a pause nobody will: there is nothing to start a replica for. Before, whoever asked waited for five
/// minutes.
#[tokio::test]
async fn a_restart_that_cannot_be_begun_is_answered_and_not_done_later() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.cluster.wait_primary(DEADLINE).await?;
    let replica = drill.other_than(&primary)?;
    let hand = Hand::at(&mut drill, &replica)?;
    done(hand.hart(&["pause", "ha", "--wait"], "")?)?;
    let before = drill.postmaster(&replica)?;
    drill.cluster.kill_node(&primary)?;
    hart_testkit::eventually("the end of the lock", DEADLINE, async || {
        ensure!(drill.cluster.leader_session().await.is_err());
        Ok(())
    })
    .await?;
    // Now and again it compares its timeline with that of the lost one, and says that.
    hart_testkit::eventually("an answer", DEADLINE, async || {
        let output = hand.hart(&["restart", "ha", &replica, "--force"], "")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = ["not restarted, and nothing is planned", "PostgreSQL is running here"];
        ensure!(
            output.status.code() == Some(1) && words.iter().all(|w| said.contains(w)),
            "{said}"
        );
        Ok(())
    })
    .await?;
    drill.cluster.revive_node(&primary).await?;
    // What lost its power in the pause stays down until its end.
    done(hand.hart(&["resume", "ha"], "")?)?;
    drill.cluster.wait_healthy(3, DEADLINE).await.with_context(|| drill.logs())?;
    ensure!(drill.postmaster(&replica)? == before, "it was restarted after all");
    drill.finish(Loss::Some, &["PostgreSQL", "Consul", "lease"]).await.map(drop)
}
