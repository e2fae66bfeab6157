//! `hart watch` at a terminal: what is on the screen, what keys do, and what is left behind.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Terminal, eventually, hart_binary, until};
use rustix::process::Signal;

use crate::Drill;
use crate::drill::Loss;

const KEYS: &str = "s: switchover   p: pause or resume   q: quit";
/// So long somebody reads a question before the answer: what comes sooner is not taken for one.
const READS: Duration = Duration::from_secs(1);

fn watch(drill: &Drill, node: &str, columns: u16, rows: u16) -> Result<Terminal> {
    let node = drill.cluster.node(node)?;
    let mut command = Command::new(hart_binary()?);
    command.arg("--config-file").arg(node.config_file()).args(["watch", "ha"]).env("TZ", "UTC");
    Terminal::start(node.host().context("a host")?, &command, columns, rows)
}

/// A member's line of the table.
fn line<'a>(screen: &'a str, member: &str) -> &'a str {
    let begin = format!("| {member} ");
    screen.lines().find(|line| line.starts_with(&begin)).unwrap_or_default()
}

/// A table that is not broken by the edge of the screen, and the keys at the end.
fn is_whole(screen: &str) -> bool {
    let table: Vec<&str> = screen.lines().filter(|line| line.starts_with(['|', '+'])).collect();
    let ends = |line: &&str| line.ends_with(['|', '+']);
    table.len() >= 7 && table.iter().all(ends) && screen.ends_with(KEYS)
}

/// As somebody would who reads the question.
async fn yes(terminal: &mut Terminal, key: &str, question: &str) -> Result<()> {
    terminal.press(key)?;
    terminal.until(question, DEADLINE, |screen| screen.contains(question)).await?;
    tokio::time::sleep(READS).await;
    terminal.press("y")
}

#[tokio::test]
async fn what_is_on_the_screen_is_so_and_keys_do_what_they_say() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let mut terminal = watch(&drill, &primary, 80, 24)?;
    let leads = |name: &str| {
        let name = name.to_owned();
        move |screen: &str| is_whole(screen) && line(screen, &name).contains("| Leader ")
    };
    let screen = terminal.until("the leader", DEADLINE, leads(&primary)).await?;
    ensure!(line(&screen, &primary).contains(" s left"), "the lease: {screen}");
    ensure!(screen.contains("Left out, the terminal is narrow:"), "{screen}");
    ensure!(screen.contains(&format!("  streams from {primary}, timeline 1")), "events: {screen}");

    // A no, whatever it is; and a word that was meant for another window.
    let question = "Switch ha over to the best member";
    for no in ["n", "\x1b[A", "yes"] {
        terminal.press("s")?;
        terminal.until(question, DEADLINE, |screen| screen.contains(question)).await?;
        tokio::time::sleep(READS).await;
        terminal.press(no)?;
        terminal.until("the keys", DEADLINE, is_whole).await?;
    }
    for key in "systemctl".chars().map(String::from) {
        terminal.press(&key)?;
    }
    terminal.until("the keys", DEADLINE, is_whole).await?;
    ensure!(drill.cluster.primary().await? == primary, "it was done without a yes");

    yes(&mut terminal, "s", question).await?;
    let next = drill.cluster.wait_new_primary(&primary, DEADLINE).await?;
    let done = format!("Successfully switched over to \"{next}\"");
    terminal.until("what came of it", DEADLINE, |screen| screen.contains(&done)).await?;
    terminal.press(" ")?;
    terminal.until("the next leader", DEADLINE, leads(&next)).await?;
    drill.written().await?;
    let on = |screen: &str| screen.contains("Maintenance mode: on");
    yes(&mut terminal, "p", "Pause ha").await?;
    terminal.until("the pause", DEADLINE, on).await?;
    yes(&mut terminal, "p", "Resume ha?").await?;
    terminal.until("its end", DEADLINE, |screen| !on(screen)).await?;
    sizes(&mut terminal, &next).await?;

    terminal.press("q")?;
    let ended = terminal.ended(DEADLINE).await?;
    let left = terminal.screen();
    ensure!(ended.success() && line(&left, &next).contains("| Leader "), "{ended}: {left}");
    ensure!(terminal.is_as_usual()? && !left.contains(KEYS), "{left}");
    drill.finish(Loss::None, &["Consul", "lease", "failsafe", "agent"]).await.map(drop)
}

/// Narrow and low screens, and what is lost meanwhile.
async fn sizes(terminal: &mut Terminal, leader: &str) -> Result<()> {
    terminal.resize(60, 16)?;
    // A lease that the pause left without an end gets one a moment after it.
    let fits = |screen: &str| {
        is_whole(screen) && screen.lines().count() <= 16 && line(screen, leader).contains(" s left")
    };
    terminal.until("a picture of that size", DEADLINE, fits).await?;
    terminal.resize(200, 40)?;
    let all = |screen: &str| is_whole(screen) && screen.contains("| Receive LSN ");
    terminal.until("all columns", DEADLINE, all).await.map(drop)
}

/// Each picture follows the last one, without anything that only terminals understand.
#[tokio::test]
async fn without_a_terminal_pictures_follow_each_other_until_nobody_reads_them() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let node = drill.cluster.node(&primary)?;
    let (host, log) =
        (node.host().context("a host")?.clone(), drill.cluster.dir().path().join("log"));
    let mut command = Command::new(hart_binary()?);
    command.arg("--config-file").arg(node.config_file()).args(["watch", "ha", "-n", "3"]);
    let watching = host.start(&mut command, &log)?;
    eventually("two pictures", DEADLINE, async || {
        let shown = watching.log();
        ensure!(shown.matches("| Leader ").count() > 1, "{shown}");
        Ok(())
    })
    .await?;
    let shown = watching.log();
    ensure!(!shown.contains('\x1b') && !shown.contains(KEYS), "{shown}");
    drop(watching);
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = host.output(command.stdout(Stdio::from(writer)).stdin(Stdio::null()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{output:?}");
    drill.finish(Loss::None, &[]).await.map(drop)
}

#[tokio::test]
async fn what_is_lost_is_shown_and_a_terminal_that_goes_ends_it() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let mut terminal = watch(&drill, &primary, 100, 24)?;
    let mut other = watch(&drill, &primary, 60, 24)?;
    terminal.until("a picture", DEADLINE, is_whole).await?;

    drill.cluster.node_mut(&replica)?.kill_agent();
    let silent = |screen: &str| is_whole(screen) && screen.contains("does not answer");
    terminal.until("the agent that is away", DEADLINE, silent).await?;
    drill.cluster.node_mut(&replica)?.start()?;
    terminal.until("its return", DEADLINE, |screen| !silent(screen) && is_whole(screen)).await?;
    drill.cluster.kill_node(&replica)?;
    let lost = |screen: &str| is_whole(screen) && line(screen, &replica).contains("lost since");
    terminal.until("the lost host", DEADLINE, lost).await?;
    other.until("the same in a narrow one", DEADLINE, lost).await?;
    // Questions and answers do not wait for who is lost.
    terminal.press("p")?;
    terminal.until("a question", DEADLINE, |screen| screen.contains("Pause ha")).await?;
    terminal.press("n")?;

    // As long as the lost one is on the list its silence is a no, and nobody could lead without Consul.
    until("a failsafe list without it", DEADLINE, async || {
        let list = drill.cluster.rest(&primary, "GET", "/failsafe", None).await.ok()?;
        (list.ok() && !list.text.contains(&replica)).then_some(())
    })
    .await?;
    drill.cluster.kill_consul();
    let alone = |screen: &str| {
        screen.contains("Consul does not answer") && line(screen, &primary).contains("| Leader ")
    };
    terminal.until("that Consul is away", DEADLINE, alone).await?;
    drill.written().await?;
    drill.cluster.start_consul().await?;
    // The last events go on showing that it was away.
    terminal.until("its return", DEADLINE, |screen| screen.contains("answers again")).await?;

    terminal.signal(Signal::TERM)?;
    let ended = terminal.ended(DEADLINE).await?;
    ensure!(ended.success() && terminal.is_as_usual()?, "{ended}");
    other.until("a picture", DEADLINE, is_whole).await?;
    other.hang_up();
    other.ended(DEADLINE).await?;
    drill.cluster.revive_node(&replica).await?;
    drill.finish(Loss::None, &["Consul", "lease", "failsafe", "PostgreSQL"]).await.map(drop)
}
