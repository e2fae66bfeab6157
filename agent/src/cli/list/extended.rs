//! What only the members themselves know.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::rest;

/// How long a member may take to answer.
const ANSWER: Duration = Duration::from_millis(800);

/// One member's own words; empty where it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Milliseconds until its lease ends.
    pub lease_left_ms: Option<u64>,
    /// Is the guard armed, and which layers of fencing are there?
    pub fencing: String,
    /// Name and version of the agent.
    pub agent: String,
}

/// Asks all members at the same time; the answers are in the order of names.
pub async fn ask_all(context: &Context, cluster: &Cluster) -> Vec<Extended> {
    let mut asked = JoinSet::new();
    for (at, member) in cluster.snapshot.members.values().enumerate() {
        let (rest, url) = (context.rest.clone(), rest::url(&member.value.api_url, "patroni"));
        let version = member.value.hart.clone();
        asked.spawn(async move { (at, read(rest.get_json(&url, ANSWER).await, &version)) });
    }
    let mut answers = vec![Extended::default(); cluster.snapshot.members.len()];
    while let Some(joined) = asked.join_next().await {
        if let Ok((at, answer)) = joined {
            answers[at] = answer;
        }
    }
    answers
}

fn read(status: Result<Value, String>, version: &str) -> Extended {
    let Ok(status) = status else {
        return Extended { agent: "does not answer".to_owned(), ..Extended::default() };
    };
    let own = &status["hart"];
    let agent = match version {
        "" => format!("Patroni {}", status["patroni"]["version"].as_str().unwrap_or("?")),
        version => format!("hart {version}"),
    };
    Extended { lease_left_ms: own["lease"]["left_ms"].as_u64(), fencing: fencing(own), agent }
}

/// `armed: cgroup, mlock; not: realtime` or, on a node that does not lead, `ready: …`; empty where
/// no guard runs.
fn fencing(own: &Value) -> String {
    let names = |list: &Value| {
        let names = list.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.collect::<Vec<_>>().join(", ")
    };
    let guard = &own["guard"];
    if !guard.is_object() {
        return String::new();
    }
    let armed = if own["armed"].is_object() { "armed" } else { "ready" };
    let (there, missing) = (names(&guard["layers"]), names(&guard["missing"]));
    let missing = if missing.is_empty() { missing } else { format!("; not: {missing}") };
    format!("{armed}: {there}{missing}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_silent_member_is_shown_as_such() {
        assert_eq!(read(Err("refused".into()), "0.1.0").agent, "does not answer");
    }

    #[test]
    fn the_layers_of_the_guard_are_named() {
        let status = json!({"hart": {
            "lease": {"term": 4, "left_ms": 2149}, "armed": {"term": 4, "left_ms": 2149},
            "guard": {"layers": ["child-kill", "pdeathsig"], "missing": ["cgroup", "mlock"]},
        }});
        let expected = Extended {
            lease_left_ms: Some(2149),
            fencing: "armed: child-kill, pdeathsig; not: cgroup, mlock".into(),
            agent: "hart 0.1.0".into(),
        };
        assert_eq!(read(Ok(status), "0.1.0"), expected);
    }

    #[test]
    fn a_patroni_has_no_guard() {
        let said = read(Ok(json!({"patroni": {"version": "4.1.0"}})), "");
        assert_eq!(said, Extended { agent: "Patroni 4.1.0".into(), ..Extended::default() });
    }
}
