//! What is asked of people at a terminal, and of PostgreSQL by `hart query`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{Host, TempDir, Terminal, hart_binary};
use serde_json::{Value, json};

use crate::Drill;
use crate::drill::Loss;
use crate::patronictl::install;

/// The same questions in the same order as patronictl's, so that whoever knows these by heart restarts what is meant.
#[tokio::test]
async fn a_restart_asks_what_patronictl_asks() -> Result<()> {
    let mut programs = vec![hart_binary()?];
    programs.extend(install()?);
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let host = drill.cluster.host(&primary)?;
    let consul = format!("consul://{}/service", drill.cluster.consul().address());
    for program in programs {
        let at = |members: &[&str]| {
            let mut command = Command::new(&program);
            command.args(["-d", &consul, "restart", "ha"]).args(members);
            Terminal::start(&host, &command, 120, 40)
        };
        let postmasters = drill.postmasters()?;
        let mut all = at(&[])?;
        answer(&mut all, "When should the restart take place", "\n").await?;
        // By name, whoever leads: the order of the table above the question.
        let who = "Are you sure you want to restart members n1, n2, n3? [y/N]";
        answer(&mut all, who, "n\n").await?;
        ensure!(!all.ended(DEADLINE).await?.success(), "{}", all.screen());
        ensure!(drill.postmasters()? == postmasters, "it was done: {}", all.screen());

        let before = drill.postmaster(&replica)?;
        let mut one = at(&[&replica])?;
        answer(&mut one, "When should the restart take place", "now\n").await?;
        let who = format!("Are you sure you want to restart members {replica}? [y/N]");
        answer(&mut one, &who, "y\n").await?;
        answer(&mut one, "PostgreSQL", "\n").await?;
        let ended = one.ended(DEADLINE).await?;
        let said = one.screen();
        let done = format!("Success: restart on member {replica}");
        ensure!(ended.success() && said.contains(&done), "{ended}: {said}");
        ensure!(said.contains("| Leader "), "the table was shown: {said}");
        drill.cluster.wait_healthy(3, DEADLINE).await?;
        ensure!(drill.postmaster(&replica)? != before, "{} did nothing", program.display());
        // One that is already new enough is left alone.
        let mut new = at(&[&replica])?;
        answer(&mut new, "When should", "\n").await?;
        answer(&mut new, "Are you sure", "y\n").await?;
        answer(&mut new, "PostgreSQL", "9.6.1\n").await?;
        new.ended(DEADLINE).await?;
        ensure!(!new.screen().contains("Success"), "{}", new.screen());
    }
    drill.finish(Loss::None, &[]).await.map(drop)
}

/// Answers the question that stands last.
async fn answer(terminal: &mut Terminal, question: &str, text: &str) -> Result<()> {
    let asked = |screen: &str| screen.lines().last().is_some_and(|line| line.contains(question));
    terminal.until(question, DEADLINE, asked).await?;
    terminal.press(text)
}

/// Who asks.
struct Asker {
    host: Host,
    consul: String,
}

impl Asker {
    fn run(&self, arguments: &[&str], input: &Path) -> Result<Output> {
        let mut command = Command::new(hart_binary()?);
        command.args(["-d", &self.consul, "query", "ha"]).args(arguments);
        command.env("PGUSER", "postgres").env("PGPASSWORD", "postgres");
        self.host.output(command.stdin(Stdio::from(std::fs::File::open(input)?)))
    }

    fn told(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments, Path::new("/dev/null"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn fails(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let output = self.run(arguments, Path::new("/dev/null"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let fits =
            output.status.code() == Some(code) && words.iter().all(|word| said.contains(word));
        ensure!(fits && !said.contains("panicked"), "{arguments:?} {words:?}: {output:?}");
        Ok(())
    }
}

const RECOVERY: &str = "SELECT pg_is_in_recovery() AS recovers";

#[tokio::test]
async fn a_statement_is_asked_where_it_is_meant() -> Result<()> {
    let mut drill = Drill::asynchronous().await?;
    let primary = drill.write().await?;
    let replica = drill.other_than(&primary)?;
    let host = drill.cluster.host(&primary)?;
    let consul = format!("consul://{}/service", drill.cluster.consul().address());
    let asker = Asker { host, consul };

    let recovers = |options: &[&str]| asker.told(&[options, &["-c", RECOVERY]].concat());
    for (options, expected) in [
        (&[][..], "f"),
        (&["-r", "primary"], "f"),
        (&["-r", "leader"], "f"),
        (&["--role", "replica"], "t"),
        (&["-m", &primary], "f"),
        (&["--member", &replica], "t"),
    ] {
        let told = recovers(options)?;
        ensure!(told == format!("recovers\n{expected}\n"), "{options:?}: {told:?}");
    }
    let address = drill.cluster.node(&replica)?.config().address.to_string();
    let at = asker.told(&["-m", &replica, "-c", "SELECT host(inet_server_addr())"])?;
    ensure!(at.ends_with(&format!("\n{address}\n")), "{at}");
    forms(&asker)?;
    files(&asker)?;
    faults(&asker, &replica)?;

    drill.cluster.kill_node(&replica)?;
    let silent =
        asker.fails(&["-m", &replica, "-c", "SELECT 1"], 1, &[&format!("{address}:5432: ")]);
    // Its entry may have gone by then.
    silent.or_else(|_| asker.fails(&["-m", &replica, "-c", "SELECT 1"], 1, &["no member"]))?;
    // The other one is asked, where any of them will do.
    ensure!(recovers(&["-r", "replica"])? == "recovers\nt\n");
    drill.cluster.revive_node(&replica).await?;
    drill.finish(Loss::None, &["PostgreSQL", "lease"]).await.map(drop)
}

/// The types of the columns count where a format has types.
fn forms(asker: &Asker) -> Result<()> {
    let sql = "SELECT 1 AS a, 'x, y' AS b, NULL AS c, true AS d, 1.5::numeric AS e";
    let of = |options: &[&str]| asker.told(&[&["-c", sql], options].concat());
    let expected = json!([{"a": 1, "b": "x, y", "c": null, "d": true, "e": 1.5}]);
    let told: Value = serde_json::from_str(&of(&["--format", "json"])?)?;
    ensure!(told == expected, "{told}");
    let told = of(&["--format", "yaml"])?;
    ensure!(told.starts_with("- a: 1\n  b: ") && told.contains("\n  d: true\n"), "{told}");
    let told = of(&["--format", "tsv"])?;
    ensure!(told == of(&[])? && told == "a\tb\tc\td\te\n1\tx, y\t\tt\t1.5\n", "{told:?}");
    let told = of(&["--delimiter", "|"])?;
    ensure!(told == "a|b|c|d|e\n1|x, y||t|1.5\n", "{told:?}");
    let told = of(&["--format", "pretty"])?;
    ensure!(told.contains("| a | b    | c | d | e   |\n"), "{told}");
    let none = asker.told(&["-c", "SELECT 1 AS a WHERE false", "--format", "json"])?;
    ensure!(none == "[]\n", "{none:?}");
    Ok(())
}

fn files(asker: &Asker) -> Result<()> {
    let dir = TempDir::new()?;
    // The last line is not ended.
    let file = dir.write("two.sql", "root", "-- the first\nSELECT 1 AS a;\n\nSELECT 2\n AS b")?;
    let path = file.to_str().context("a path")?;
    let of_file = asker.told(&["-f", path])?;
    ensure!(of_file.contains('1') && of_file.contains('2'), "{of_file:?}");
    let output = asker.run(&["-f", "-"], &file)?;
    ensure!(output.status.success() && output.stdout == of_file.as_bytes(), "{output:?}");
    asker.fails(&["-f", "/nowhere/at.sql"], 64, &["/nowhere/at.sql"])
}

fn faults(asker: &Asker, replica: &str) -> Result<()> {
    let sql = ["-c", "SELECT 1"];
    let with = |options: &[&'static str]| [options, &sql].concat();
    asker.fails(&["-c", "SELEKT 1"], 1, &["ERROR", "SELEKT"])?;
    asker.fails(&["-m", replica, "-c", "CREATE TABLE t ()"], 1, &["read-only transaction"])?;
    asker.fails(&with(&["-m", "n9"]), 1, &["no member \"n9\"", "n1, n2, n3"])?;
    asker.fails(&with(&["-r", "standby-leader"]), 1, &["no such member"])?;
    asker.fails(&with(&["-d", "nowhere"]), 1, &["\"nowhere\" does not exist"])?;
    asker.fails(&with(&["-U", "nobody"]), 1, &["nobody"])?;
    asker.fails(&with(&["-f", "x.sql"]), 64, &["--file"])?;
    asker.fails(&with(&["-r", "replica", "-m", "n1"]), 64, &["--role"])?;
    asker.fails(&[], 64, &["--command"])?;
    asker.fails(&with(&["--watch", "0"]), 64, &["--watch"])
}
