//! How changed settings get to Consul.

use std::process::ExitCode;
use std::time::Duration;

use hart_config::out_of_range;
use hart_consul::PutOptions;
use hart_ha::kv::DynamicConfig;
use serde_json::{Map, Value};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::rest;

/// A member asks the others' PostgreSQL, and writes to Consul, before it answers.
const DONE: Duration = Duration::from_secs(30);
/// The status for settings that somebody else has changed while a member wrote (RFC 9110, 15.5.10).
const CONFLICT: u16 = 409;
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
    // A member that did not answer may have written it all the same.
    let mut unknown = false;
    for (name, member) in cluster.leader_first() {
        let url = rest::url(&member.api_url, "config");
        match context.rest.put(&url, &body, version, DONE).await {
            Ok(answer) if answer.is_success() => {
                println!("Configuration changed");
                tell_left_out(&answer.text);
                return Ok(ExitCode::SUCCESS);
            }
            Ok(answer) if [CONFLICT, PRECONDITION_FAILED].contains(&answer.status) => {
                return settle(context, &after, unknown).await;
            }
            Ok(answer) => {
                let text = format!("{name} answered {}: {}", answer.status, answer.text.trim());
                return Err(Fail::failed(text));
            }
            Err(reason) => {
                eprintln!("hart: {name}: {reason}");
                unknown = true;
            }
        }
    }
    by_hand(context, before, after, version).await
}

/// The version is another one: is that a member's doing which was asked before and whose answer was lost?
async fn settle(
    context: &Context,
    after: &Map<String, Value>,
    unknown: bool,
) -> Result<ExitCode, Fail> {
    if !unknown {
        return Err(outrun());
    }
    let stored = context.cluster().await?.snapshot.config;
    if stored.is_some_and(|config| config.value.raw == *after) {
        println!("Configuration changed");
        return Ok(ExitCode::SUCCESS);
    }
    Err(Fail::failed(
        "the settings are others by now; whether this change was among those is not known",
    )
    .hint("look at them with `hart show-config`"))
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
    let known = DynamicConfig::from_raw(before.clone()).unwrap_or_default();
    if let Some(problem) = read.slots.newer_problem(&known.slots) {
        return Err(Fail::usage(problem.to_string()));
    }
    if let Some(ttl) = read.ttl_out_of_bounds().filter(|_| before.get("ttl") != after.get("ttl")) {
        return Err(Fail::usage(format!(
            "ttl: {} s is no lease that hart can keep",
            ttl.as_secs_f64()
        )));
    }
    let stood = out_of_range(&known);
    if let Some(warning) = out_of_range(&read).iter().find(|warning| !stood.contains(warning)) {
        return Err(Fail::usage(format!("postgresql.parameters: {warning}")));
    }
    eprintln!(
        "hart: no member can be reached; the settings are written to Consul unseen by PostgreSQL"
    );
    let key = format!("{}config", context.prefix);
    let text = Value::Object(after.clone()).to_string();
    if !context.consul.kv().put(&key, text, &PutOptions::cas(version)).await? {
        // Each member was asked, and none has answered.
        return settle(context, &after, true).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use hart_consul_dev::Server;
    use serde_json::json;

    /// The member that was asked has written it, or not, and its answer was lost.
    #[tokio::test]
    async fn an_answer_that_was_lost_is_not_taken_for_a_no() {
        let server = Server::start("127.0.0.1:0").await.unwrap();
        let text = format!(
            "scope: demo\nname: n1\nrestapi: {{listen: '127.0.0.1:1'}}\nconsul: {{url: '{}'}}\n\
             postgresql: {{listen: '127.0.0.1:2', data_dir: /d}}\n",
            server.url()
        );
        let config = hart_config::load_text("t.yml", &text, []).unwrap().config;
        let context = Context::of(&config, "service", "demo").unwrap();
        let map = |ttl: u64| json!({ "ttl": ttl }).as_object().unwrap().clone();
        let put = async |ttl| {
            let text = Value::Object(map(ttl)).to_string();
            let key = "service/demo/config";
            assert!(context.consul.kv().put(key, text, &PutOptions::default()).await.unwrap());
        };
        put(5).await;
        let cluster = context.cluster().await.unwrap();
        let version = cluster.snapshot.config.as_ref().unwrap().index;
        let edit = async || write(&context, &cluster, &map(5), map(7), version).await;
        put(7).await;
        assert_eq!(edit().await.unwrap(), ExitCode::SUCCESS, "it is there");
        put(9).await;
        let error = edit().await.unwrap_err().to_string();
        assert!(error.contains("is not known"), "{error}");
    }
}
