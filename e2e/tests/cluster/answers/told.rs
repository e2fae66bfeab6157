//! The answers, and whether they are what was done.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_e2e::DEADLINE;
use hart_testkit::{eventually, hart_binary};
use serde_json::Value;

use super::{Case, Cast};
use crate::Drill;
use crate::program::hart;

/// What the commands said afterwards, as far as the page has it.
pub(super) struct Told {
    /// For how long nobody could write: milliseconds, and whether it is exact; `None`: nobody else came to lead.
    pub(super) no_writes: Option<(i64, bool)>,
    /// For how long the writers got no acknowledgement.
    pub(super) writers: Duration,
}

/// While it lasts, from a member that is well.
pub(super) async fn meanwhile(drill: &Drill, case: &Case, cast: &Cast) -> Result<()> {
    let (who, role, state) = case.list;
    let (name, witness) = (cast.name(who)?, cast.witness(who));
    eventually("the list", DEADLINE, async || {
        let list = hart(&drill.cluster, witness, &["list", "ha", "-f", "json"])?;
        let rows: Vec<Value> = serde_json::from_str(&list)?;
        let row = rows.iter().find(|row| row["Member"] == name).with_context(|| list.clone())?;
        let shown = row["State"].as_str().unwrap_or_default();
        ensure!(row["Role"] == role && shown.contains(state), "{role}, {state}: {row}");
        Ok(())
    })
    .await?;
    eventually("the reason", DEADLINE, async || {
        let why = hart(&drill.cluster, witness, &["why", "ha", name])?;
        let said = cast.said(case.why);
        ensure!(why.contains(&said), "{said}: {why}");
        Ok(())
    })
    .await?;
    let (well, leads) = (cast.well(drill, who)?, cast.leads());
    let address = drill.cluster.node(leads)?.config().address;
    let lets_in = |role: &str| format!("{leads} ({address}:5432) takes {role}");
    eventually("the check", DEADLINE, async || {
        let found = check(drill, well)?;
        let is = |level: &str, text: &str| {
            let mut lines = found.lines().filter(|line| line.starts_with(level));
            lines.any(|line| line.contains(text))
        };
        let fails = |text: &str| is("FAIL", text);
        match case.check.map(|text| cast.said(text)) {
            Some(text) => ensure!(fails(&text) || is("warn", &text), "{text}: {found}"),
            None => {
                let roles =
                    ["postgres (superuser)", "replicator (replication)", "rewinder (rewind)"];
                let all = roles.iter().all(|role| found.contains(&lets_in(role)));
                ensure!(all && !fails(""), "{leads} is not named, or something fails: {found}");
            }
        }
        Ok(())
    })
    .await
}

fn check(drill: &Drill, name: &str) -> Result<String> {
    let node = drill.cluster.node(name)?;
    let mut command = Command::new(hart_binary()?);
    command.arg("check").arg(node.config_file());
    let output = drill.cluster.host(name)?.output(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Told {
    /// When all are well again: the causes, and the order.
    pub(super) async fn afterwards(
        drill: &Drill,
        case: &Case,
        cast: &Cast,
        since: &str,
        writers: Duration,
    ) -> Result<Self> {
        let witness = cast.witness(case.list.0).to_owned();
        let mut told = None;
        eventually("the story", DEADLINE, async || {
            let events = ["events", "ha", "-f", "json", "--since", since];
            let text = hart(&drill.cluster, &witness, &events)?;
            let events: Value = serde_json::from_str(&text)?;
            order(&events, case, cast).with_context(|| shown(&events))?;
            told = Some(change(&events, case, cast).with_context(|| shown(&events))?);
            Ok(())
        })
        .await?;
        Ok(Self { no_writes: told.context("nothing was told")?, writers })
    }
}

fn shown(events: &Value) -> String {
    let lines = events["events"].as_array().cloned().unwrap_or_default();
    let lines: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {} {} {}", line["at"], line["node"], line["kind"], line["text"]))
        .collect();
    format!("{}\n{}", lines.join("\n"), events["changes"])
}

/// Each line is there, and after the one before it.
fn order(events: &Value, case: &Case, cast: &Cast) -> Result<()> {
    let mut lines = events["events"].as_array().context("no events")?.iter();
    for (kind, who, text) in case.order {
        let (name, said) = (cast.name(*who)?, cast.said(text));
        let fits = |line: &&Value| {
            line["kind"] == *kind
                && line["node"] == name
                && line["text"].as_str().unwrap_or_default().contains(&said)
        };
        lines.find(|line| fits(line)).with_context(|| format!("no {kind} of {name}: {said}"))?;
    }
    Ok(())
}

/// Who leads instead of whom, and why; or nobody.
fn change(events: &Value, case: &Case, cast: &Cast) -> Result<Option<(i64, bool)>> {
    let changes = events["changes"].as_array().context("no changes")?;
    let Some(cause) = case.cause else {
        let other = changes.iter().find(|change| change["leader"] != cast.leader);
        ensure!(other.is_none(), "nobody else came to lead");
        return Ok(None);
    };
    let next = cast.name(super::Who::Next)?;
    let change = changes.iter().find(|change| change["leader"] == next).context("no change")?;
    let reason = change["reason"].as_str().unwrap_or_default();
    ensure!(change["former"] == cast.leader, "{change}");
    ensure!(reason.contains(&cast.said(cause)), "{cause}: {reason}");
    let points = ["noticed", "closed", "renewed", "taken", "promoted", "writable", "followed"];
    let later = |what: &str| change[what]["after_ms"].as_i64();
    let ordered = ["taken", "promoted", "writable"].map(later);
    ensure!(ordered.iter().all(Option::is_some) && ordered.is_sorted(), "{change}");
    ensure!(points.iter().filter_map(|what| later(what)).all(|ms| ms >= 0), "{change}");
    let no_writes = &change["no_writes"];
    let exact = no_writes["exact"].as_bool().context("no outage")?;
    Ok(Some((no_writes["ms"].as_i64().context("no outage")?, exact)))
}
