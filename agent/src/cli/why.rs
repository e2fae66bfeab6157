//! `hart why`: for each member, may it lead now, and if not, which rule forbids it, with which value,
//! and what to do.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hart_ha::brain::Refusal;
use hart_ha::kv::State;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::api::why::{Why, size};
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::{self, Format};
use crate::cli::globals::Globals;
use crate::cli::list::heard::{Heard, shown};
use crate::cli::rest::{self, Answer};
use crate::journal::Away;

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_millis(1200);

/// Arguments of `hart why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The members; without any, all.
    members: Vec<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
}

/// Prints each member's reasons.
///
/// # Errors
/// The cluster cannot be read, or has no such member.
pub async fn run(globals: &Globals, args: WhyArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    // At the same time: who is lost costs the longer of the two only.
    let (heard, mut said) =
        tokio::join!(Heard::ask(&context, &cluster), ask(&context, &cluster, &args.members));
    let away = heard.away();
    for name in args.members.iter().filter(|name| !away.contains_key(*name)) {
        cluster.member(name)?;
    }
    for (name, away) in away {
        if is_wanted(&args.members, &name) && (!away.entry || heard.is_silent(&name)) {
            said.retain(|why| why.member != name);
            said.push(lost(&cluster, &name, &away, &silence(&context, &away).await));
        }
    }
    said.sort_by(|a, b| a.member.cmp(&b.member));
    let text = render(&cluster, &said, args.format);
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_wanted(named: &[String], name: &str) -> bool {
    named.is_empty() || named.iter().any(|only| only == name)
}

async fn ask(context: &Context, cluster: &Cluster, named: &[String]) -> Vec<Why> {
    let mut asked = JoinSet::new();
    for (name, member) in &cluster.snapshot.members {
        if !is_wanted(named, name) {
            continue;
        }
        let (name, url) = (name.clone(), rest::url(&member.value.api_url, "why"));
        let (rest, state) = (context.rest.clone(), member.value.state);
        let is_hart = !member.value.hart.is_empty();
        asked.spawn(async move { read(&name, state, is_hart, rest.get(&url, ANSWER).await) });
    }
    let mut said: Vec<Why> = asked.join_all().await;
    said.sort_by(|a, b| a.member.cmp(&b.member));
    said
}

const LOOK: &str = "look whether the host is up, the agent runs, and its REST port can be reached from here; the \
                    other members count only what they hear themselves";
const START: &str =
    "the host is there and nothing listens at that port: start the agent there, or see its log";

/// Only a host that is up refuses a connection.
fn is_refused(silence: &str) -> bool {
    silence.to_ascii_lowercase().contains("connection refused")
}

/// Whoever is away may have no entry any more: it is asked where it was last.
async fn silence(context: &Context, away: &Away) -> String {
    let asked = context.rest.get(&rest::url(&away.api_url, "why"), ANSWER).await;
    asked.err().unwrap_or_default()
}

/// A member that does not answer is a reason, too.
fn read(name: &str, state: State, is_hart: bool, answer: Result<Answer, String>) -> Why {
    let refuse = |rule: &str, value: String, remedy: &str| Why {
        member: name.to_owned(),
        verdict: "unknown".to_owned(),
        refusal: Some(Refusal { rule: rule.to_owned(), value, remedy: remedy.to_owned() }),
        state: state.to_string(),
        ..Why::default()
    };
    match answer {
        Err(why) => refuse(
            "agent",
            format!("its agent does not answer: {why}"),
            if is_refused(&why) { START } else { LOOK },
        ),
        Ok(_) if !is_hart => refuse(
            "patroni",
            "it is run by Patroni, which does not say why".to_owned(),
            "see its log",
        ),
        Ok(answer) => match serde_json::from_str::<Why>(&answer.text) {
            Ok(why) if answer.status == 200 && !why.member.is_empty() => why,
            _ => refuse(
                "version",
                format!("its agent answers with status {}", answer.status),
                "it is of another version of hart; see its log",
            ),
        },
    }
}

/// Of a member that does not answer: since when, and what is kept for it.
fn lost(cluster: &Cluster, name: &str, away: &Away, silence: &str) -> Why {
    let entry = cluster.snapshot.member(name);
    let role = entry.map_or_else(|| away.role.clone(), |entry| entry.role.to_string());
    let state = entry.map_or_else(|| away.state.clone(), |entry| entry.state.to_string());
    let url = entry.map_or(away.api_url.as_str(), |entry| entry.api_url.as_str());
    let ttl = cluster.snapshot.config.as_ref().map(|config| config.value.member_slots_ttl);
    let leader = cluster.leader().unwrap_or("the leader");
    let slot = away.slot_keeps.map(|bytes| {
        let ends = ttl.map(|ttl| {
            let minutes = ttl.as_secs().div_ceil(60);
            format!(
                "; it is dropped when its entry has been gone for {minutes} min (member_slots_ttl)"
            )
        });
        format!("its slot on {leader} keeps {} of WAL{}", size(bytes), ends.unwrap_or_default())
    });
    let lease = cluster.snapshot.lease();
    if lease.is_some_and(|lease| lease.is_held() && lease.open && lease.holder == name) {
        return left_running(name, url, away);
    }
    let none =
        || format!("{leader} keeps no slot for it: what it lacks may be gone when it is back");
    Why {
        member: name.to_owned(),
        verdict: "lost".to_owned(),
        refusal: Some(Refusal {
            rule: "away".to_owned(),
            value: format!("since {}; it was {role}, {state}", shown(&away.since)),
            remedy: if is_refused(silence) {
                format!(
                    "its agent at {url} does not answer, and the host is there: start the agent there"
                )
            } else {
                format!(
                    "its agent at {url} does not answer: look whether the host is up; with its agent running \
                     it comes back by itself"
                )
            },
        }),
        waits_for: Vec::new(),
        slot: Some(slot.unwrap_or_else(none)),
        ..Why::default()
    }
}

/// The holder of a lease without an end: it writes on.
fn left_running(name: &str, url: &str, away: &Away) -> Why {
    Why {
        member: name.to_owned(),
        verdict: "away".to_owned(),
        refusal: Some(Refusal {
            rule: "away".to_owned(),
            value: format!(
                "its agent since {}; it was left running as primary in a pause, and nobody takes over",
                shown(&away.since)
            ),
            remedy: format!("start its agent ({url} does not answer)"),
        }),
        ..Why::default()
    }
}

fn render(cluster: &Cluster, said: &[Why], format: Format) -> String {
    match format {
        Format::Pretty => {
            let parts = said.iter().map(pretty);
            let whole = notes(cluster);
            parts.chain((!whole.is_empty()).then_some(whole)).collect::<Vec<_>>().join("\n")
        }
        Format::Json => Value::from_iter(objects(said)).to_string(),
        Format::Yaml => formats::yaml(&objects(said)),
        Format::Tsv => {
            let names = ["Member", "Verdict", "Rule", "Value", "Remedy", "Phase", "Not streaming"];
            formats::tsv(&names, &said.iter().map(row).collect::<Vec<_>>())
        }
    }
}

fn objects(said: &[Why]) -> Vec<Map<String, Value>> {
    let object = |why: &Why| match json!(why) {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    said.iter().map(object).collect()
}

fn row(why: &Why) -> Vec<String> {
    let refusal = why.refusal.clone();
    let nothing = || Refusal { rule: String::new(), value: String::new(), remedy: String::new() };
    let Refusal { rule, value, remedy } = refusal.unwrap_or_else(nothing);
    let texts = [&why.member, &why.verdict, &rule, &value, &remedy, &why.phase, &why.not_streaming];
    texts.map(Clone::clone).into()
}

/// One member, as one would tell it.
fn pretty(why: &Why) -> String {
    let verdict = match (why.verdict.as_str(), &why.refusal) {
        ("leads", _) => "leads".to_owned(),
        ("may lead", _) => "yes, it may lead when the lease is free".to_owned(),
        (_, Some(refusal)) => {
            let may = match why.verdict.as_str() {
                "unknown" => "not known",
                "lost" => "lost",
                "away" => "away",
                _ => "no",
            };
            format!("{may} — {} (rule: {}); {}", refusal.value, refusal.rule, refusal.remedy)
        }
        (other, None) => other.to_owned(),
    };
    let mut text = format!("{}: {verdict}", why.member);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("\n    {name}: {value}"));
        }
    };
    let state =
        if why.role.is_empty() { String::new() } else { format!("{}, {}", why.role, why.state) };
    line("PostgreSQL", &state);
    line("doing", &why.phase);
    line("not streaming", &why.not_streaming);
    line("PostgreSQL's log", why.log.as_deref().unwrap_or(""));
    line("its WAL", why.slot.as_deref().unwrap_or(""));
    for wait in &why.waits_for {
        line("waits for", wait);
    }
    line("last request refused", why.refused.as_deref().unwrap_or(""));
    line("settings", why.complaint.as_deref().unwrap_or(""));
    line("installed", why.installed.as_deref().unwrap_or(""));
    line("lost when it came back", why.lost.as_deref().unwrap_or(""));
    text
}

/// What concerns all of them.
fn notes(cluster: &Cluster) -> String {
    let snapshot = &cluster.snapshot;
    let mut notes = Vec::new();
    match (snapshot.leader_name(), snapshot.lease()) {
        (Some(name), Some(lease)) if lease.is_held() => {
            let ttl = lease.ttl().as_secs_f64();
            notes.push(format!("The lease of term {} is {name}'s; it lasts {ttl} s.", lease.term));
        }
        (Some(name), None) => notes.push(format!("{name} leads by the lock alone: it is Patroni.")),
        _ => notes.push("Nobody holds the lease.".to_owned()),
    }
    if let Some(request) = snapshot.failover.as_ref().map(|f| &f.value).filter(|r| !r.is_empty()) {
        let to = request.member.as_deref().unwrap_or("the best member");
        let when = request.scheduled_at.as_deref().unwrap_or("now");
        notes.push(format!("A switchover or failover to {to} is asked for ({when})."));
    }
    notes.extend(cluster.roll.as_ref().map(|roll| roll.sentence(&cluster.scope) + "."));
    notes.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    fn refused() -> Why {
        let text = r#"{"member":"n3","verdict":"may not lead","role":"replica","state":"running",
            "phase":"following n1","refusal":{"rule":"lag",
            "value":"replication lag 12 MB > maximum_lag_on_failover 1 MB","remedy":"wait, or raise it"},
            "waits_for":["n1, which holds the lease"],"refused":"n3 is behind"}"#;
        let answer = Answer { status: 200, text: text.to_owned() };
        read("n3", State::Running, true, Ok(answer))
    }

    #[test]
    fn a_refusal_has_rule_value_and_remedy() {
        let text = render(&made(), &[refused()], Format::Pretty);
        assert!(
            text.starts_with(
                "n3: no — replication lag 12 MB > maximum_lag_on_failover 1 MB (rule: lag); wait, or \
                 raise it\n    PostgreSQL: replica, running\n    doing: following n1\n"
            ),
            "{text}"
        );
        assert!(text.contains("last request refused: n3 is behind"), "{text}");
        assert!(text.ends_with("The lease of term 4 is n1's; it lasts 3 s."), "{text}");
    }

    #[test]
    fn a_lost_member_is_answered_for() {
        let away = Away {
            since: "2026-01-01T00:00:01.500Z".into(),
            api_url: "http://10.0.0.9:8008/patroni".into(),
            role: "primary".into(),
            state: "running".into(),
            slot_keeps: Some(12 << 20),
            ..Away::default()
        };
        let text = render(&made(), &[lost(&made(), "n9", &away, "")], Format::Pretty);
        for part in [
            "n9: lost — since 2026-01-01 00:00:01 UTC; it was primary, running (rule: away)",
            "http://10.0.0.9:8008/patroni does not answer",
            "its WAL: its slot on n1 keeps 12 MB of WAL; it is dropped when its entry has been gone for 30 min",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let mut paused = made();
        let status = paused.snapshot.status.as_mut().unwrap();
        let lease = status.value.lease.as_mut().unwrap();
        (lease.open, lease.holder) = (true, "n9".into());
        let text = render(&paused, &[lost(&paused, "n9", &away, "")], Format::Pretty);
        assert!(
            text.contains("n9: away — its agent since 2026-01-01 00:00:01 UTC; it was left"),
            "{text}"
        );
        let none = Away { slot_keeps: None, ..away };
        assert!(lost(&made(), "n9", &none, "").slot.unwrap().contains("n1 keeps no slot"));
    }

    #[test]
    fn the_line_of_postgresqls_log_is_named() {
        let text = "/d.hart/postgresql.log, line 412: FATAL:  could not open file".to_owned();
        let down = Why { log: Some(text.clone()), ..refused() };
        let shown = render(&made(), &[down], Format::Pretty);
        assert!(shown.contains(&format!("PostgreSQL's log: {text}")), "{shown}");
        assert!(!render(&made(), &[refused()], Format::Pretty).contains("PostgreSQL's log"));
    }

    #[test]
    fn silence_is_a_reason() {
        let why = read("n2", State::Running, true, Err("refused".into()));
        assert_eq!(
            (why.verdict.as_str(), why.refusal.unwrap().rule.as_str()),
            ("unknown", "agent")
        );
        let odd = Answer { status: 503, text: "{}".into() };
        assert_eq!(read("n2", State::Running, true, Ok(odd)).refusal.unwrap().rule, "version");
        let patroni = Answer { status: 200, text: "{}".into() };
        assert_eq!(read("n2", State::Running, false, Ok(patroni)).refusal.unwrap().rule, "patroni");
    }

    /// A host that refuses a connection is up.
    #[test]
    fn a_host_that_refuses_the_connection_is_up() {
        let why = "http://h:8008/why: error sending request: Connection refused (os error 111)";
        for (why, start) in [(why, true), ("http://h:8008/why: no answer in time", false)] {
            let unknown = read("n2", State::Running, true, Err(why.into()));
            let lost = lost(&made(), "n9", &Away::default(), why);
            for remedy in [unknown, lost].map(|said| said.refusal.unwrap().remedy) {
                assert_eq!(remedy.contains("start the agent there"), start, "{remedy}");
                assert_eq!(remedy.contains("host is up"), !start, "{remedy}");
            }
        }
    }

    #[test]
    fn machines_get_it_too() {
        let json: Value =
            serde_json::from_str(&render(&made(), &[refused()], Format::Json)).unwrap();
        assert_eq!(json[0]["refusal"]["rule"], "lag");
        let tsv = render(&made(), &[refused()], Format::Tsv);
        assert_eq!(tsv.lines().count(), 2);
    }
}
