//! The outcome in words.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::look::Look;
use super::node::PROMOTION;
use super::outcome::Outcome;
use crate::api::why::size;
use crate::cli::formats::{self, Format};
use crate::cli::table;

/// Renders the outcome.
pub(super) fn render(look: &Look, fault: &Fault, outcome: &Outcome, format: Format) -> String {
    match format {
        Format::Pretty => pretty(look, fault, outcome),
        Format::Tsv => formats::tsv(
            &["After", "Member", "What"],
            &rows(outcome, |d| format!("{:.3}", d.as_secs_f64())),
        ),
        Format::Json => Value::Object(object(look, fault, outcome)).to_string(),
        Format::Yaml => formats::yaml(&[object(look, fault, outcome)]),
    }
}

fn rows(outcome: &Outcome, time: impl Fn(Duration) -> String) -> Vec<Vec<String>> {
    let row = |it: &super::world::Happened| vec![time(it.after), it.node.clone(), it.what.clone()];
    outcome.happened.iter().map(row).collect()
}

fn pretty(look: &Look, fault: &Fault, outcome: &Outcome) -> String {
    let mut parts = vec![format!("{}:", fault.sentence())];
    parts.extend(verdict(outcome).into_iter().map(|line| format!("  {line}")));
    parts.push(format!("  {}", loss(look, outcome)));
    if !outcome.happened.is_empty() {
        let rows = rows(outcome, seconds);
        parts.push(table::render(&["After", "Member", "What"], &rows, &["After"]));
    }
    parts.extend(assumptions(look).into_iter().map(|line| format!(" {line}")));
    parts.join("\n")
}

/// Who leads, after how long; or that nobody may, and why.
fn verdict(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    if outcome.overlap {
        lines.push(
            "TWO members could be written to at the same time: this is a fault of hart".to_owned(),
        );
    }
    let before = &outcome.before;
    match &outcome.after {
        Some(after) if after == before && outcome.outage.is_zero() => {
            lines.push(format!("{before} goes on leading; writes go on without a break."));
        }
        Some(after) if after == before => lines.push(format!(
            "{before} leads again; writes are impossible for {}.",
            seconds(outcome.outage)
        )),
        Some(after) => {
            lines.push(format!("{after} leads in place of {before}."));
            lines.push(format!(
                "Writes are impossible for {}; they are possible again {} after the fault.",
                seconds(outcome.outage),
                seconds(open_again(outcome))
            ));
        }
        None => lines.extend(nobody(outcome)),
    }
    lines
}

fn open_again(outcome: &Outcome) -> Duration {
    let new = outcome.open.iter().rev().find(|open| outcome.after.as_ref() == Some(&open.node));
    new.map(|open| open.from).unwrap_or_default()
}

fn nobody(outcome: &Outcome) -> Vec<String> {
    let closed = outcome.open.iter().find(|open| open.node == outcome.before);
    let closed = closed.and_then(|open| open.to).filter(|to| !to.is_zero());
    let closed = closed.map(|to| format!(" {} after the fault", seconds(to))).unwrap_or_default();
    let mut lines = vec![format!(
        "Nobody may be written to any more: {} stops{closed}, and nobody takes its place within {}.",
        outcome.before,
        seconds(outcome.horizon)
    )];
    for (name, phase) in &outcome.phases {
        match outcome.refusals.get(name) {
            Some(refusal) => lines.push(format!(
                "{name} may not lead: {} (rule: {}); {}.",
                refusal.value, refusal.rule, refusal.remedy
            )),
            None => lines.push(format!("{name} does not lead: {phase}.")),
        }
    }
    lines
}

fn loss(look: &Look, outcome: &Outcome) -> String {
    let loss = &outcome.loss;
    let Some(after) = &outcome.after else {
        return "Nothing acknowledged is lost as long as nobody takes over.".to_owned();
    };
    if loss.nothing && *after == outcome.before {
        return "Nothing is lost.".to_owned();
    }
    if loss.nothing {
        return format!(
            "Nothing acknowledged is lost: {after} is in the published synchronous set and has every \
             commit."
        );
    }
    let mut text = if loss.behind_bytes == 0 {
        format!("{after} has all of {}'s WAL at this moment", outcome.before)
    } else {
        let behind = size(loss.behind_bytes);
        format!("Lost would be {behind} of WAL that {after} has not received at this moment")
    };
    if loss.written_on_bytes > 0 {
        text.push_str(&format!(
            ", and what {} writes until it is stopped: about {} at the present rate of {}/s",
            outcome.before,
            size(loss.written_on_bytes),
            size(look.wal_rate)
        ));
    } else if look.wal_rate > 0 {
        text.push_str(&format!(
            "; replication is asynchronous, and {}/s are being written, so the last moments may be lost",
            size(look.wal_rate)
        ));
    } else {
        text.push_str("; replication is asynchronous, so a commit in its last moment may be lost");
    }
    text + "."
}

fn assumptions(look: &Look) -> Vec<String> {
    let mut lines = vec![
        format!(
            "The fault strikes just after a renewal of the lease, the worst moment. The decisions are \
             the real ones; PostgreSQL's own times are assumed (promotion {}, start 0.5 s, rewind 2 s).",
            seconds(PROMOTION)
        ),
        "A standby that vanishes is assumed to be noticed by its primary after one ttl.".to_owned(),
    ];
    for (name, why) in &look.silent {
        lines.push(format!("{name} did not answer ({why}) and is taken for lost."));
    }
    for (name, seen) in &look.members {
        if let Some(busy) = &seen.busy {
            lines.push(format!("{name} is in the middle of \"{busy}\", which is taken for ended."));
        }
    }
    lines
}

fn object(look: &Look, fault: &Fault, outcome: &Outcome) -> Map<String, Value> {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let happened: Vec<Value> = outcome
        .happened
        .iter()
        .map(|it| json!({"after_ms": ms(it.after), "member": it.node, "what": it.what}))
        .collect();
    let value = json!({
        "cluster": look.scope,
        "fault": fault.sentence(),
        "leader_before": outcome.before,
        "leader_after": outcome.after,
        "outage_ms": ms(outcome.outage),
        "loss": outcome.loss,
        "wal_bytes_per_second": look.wal_rate,
        "may_not_lead": outcome.refusals,
        "two_writable": outcome.overlap,
        "silent": look.silent,
        "looked_ahead_ms": ms(outcome.horizon),
        "timeline": happened,
    });
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
