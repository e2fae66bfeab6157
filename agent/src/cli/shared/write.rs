//! How changed settings get to Consul.

use std::process::ExitCode;
use std::time::Duration;

use hart_consul::PutOptions;
use hart_ha::kv::DynamicConfig;
use serde_json::{Map, Value};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::rest;

/// A member asks the others' PostgreSQL, and writes to Consul, before it answers.
const DONE: Duration = Duration::from_secs(30);
/// The status for settings that somebody else has changed (RFC 9110, 15.5.13).
const PRECONDITION_FAILED: u16 = 412;

/// By a member, which looks whether all nodes can read them and PostgreSQL takes them. Where none can be
/// reached, as with a setting that lets no agent start, into Consul itself.
pub(super) async fn write(
    context: &Context,
    cluster: &Cluster,
    before: &Map<String, Value>,
    after: Map<String, Value>,
    version: u64,
) -> Result<ExitCode, Fail> {
    let body = Value::Object(after.clone());
    for (name, member) in cluster.leader_first() {
        let url = rest::url(&member.api_url, "config");
        match context.rest.put(&url, &body, version, DONE).await {
            Ok(answer) if answer.is_success() => {
                println!("Configuration changed");
                tell_left_out(&answer.text);
                return Ok(ExitCode::SUCCESS);
            }
            Ok(answer) if answer.status == PRECONDITION_FAILED => return Err(outrun()),
            Ok(answer) => {
                let text = format!("{name} answered {}: {}", answer.status, answer.text.trim());
                return Err(Fail::failed(text));
            }
            Err(reason) => eprintln!("hart: {name}: {reason}"),
        }
    }
    by_hand(context, before, after, version).await
}

fn outrun() -> Fail {
    Fail::failed("the settings were changed by somebody else meanwhile; nothing was written")
        .hint("look at them with `hart show-config`, and try again")
}

async fn by_hand(
    context: &Context,
    before: &Map<String, Value>,
    after: Map<String, Value>,
    version: u64,
) -> Result<ExitCode, Fail> {
    let read = DynamicConfig::from_raw(after.clone());
    let read = read.map_err(|error| Fail::usage(error.to_string()))?;
    if let Some(ttl) = read.ttl_out_of_bounds().filter(|_| before.get("ttl") != after.get("ttl")) {
        return Err(Fail::usage(format!(
            "ttl: {} s is no lease that hart can keep",
            ttl.as_secs_f64()
        )));
    }
    eprintln!(
        "hart: no member can be reached; the settings are written to Consul unseen by PostgreSQL"
    );
    let key = format!("{}config", context.prefix);
    let text = Value::Object(after).to_string();
    if !context.consul.kv().put(&key, text, &PutOptions::cas(version)).await? {
        return Err(outrun());
    }
    println!("Configuration changed");
    Ok(ExitCode::SUCCESS)
}

/// Parameters that some members' PostgreSQL refuses.
fn tell_left_out(answer: &str) {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let Some(members) = answer.pointer("/hart/left_out").and_then(Value::as_object) else { return };
    for (member, refused) in members {
        for (name, why) in refused.as_object().into_iter().flatten() {
            let why = why.as_str().unwrap_or_default();
            eprintln!("hart: warning: {member} leaves {name} out: {why}");
        }
    }
}
