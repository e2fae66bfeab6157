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

use crate::api::why::Why;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::{self, Format};
use crate::cli::globals::Globals;
use crate::cli::rest::{self, Answer};

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Arguments of `hart why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// The member; without it all.
    member: Option<String>,
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    #[arg(long, value_name = "SCOPE")]
    cluster: Option<String>,
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
    if let Some(name) = &args.member {
        cluster.member(name)?;
    }
    let said = ask(&context, &cluster, args.member.as_deref()).await;
    let text = render(&cluster, &said, args.format);
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(context: &Context, cluster: &Cluster, only: Option<&str>) -> Vec<Why> {
    let mut asked = JoinSet::new();
    for (name, member) in &cluster.snapshot.members {
        if only.is_some_and(|only| only != name) {
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
            "look whether the host is up, the agent runs, and its REST port can be reached from here; \
             the other members count only what they hear themselves",
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
            let may = if why.verdict == "unknown" { "not known" } else { "no" };
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
    for wait in &why.waits_for {
        line("waits for", wait);
    }
    line("last request refused", why.refused.as_deref().unwrap_or(""));
    line("settings", why.complaint.as_deref().unwrap_or(""));
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

    #[test]
    fn machines_get_it_too() {
        let json: Value =
            serde_json::from_str(&render(&made(), &[refused()], Format::Json)).unwrap();
        assert_eq!(json[0]["refusal"]["rule"], "lag");
        let tsv = render(&made(), &[refused()], Format::Tsv);
        assert_eq!(tsv.lines().count(), 2);
    }
}
