//! How the request gets to the cluster.

use std::time::Duration;

use hart_consul::PutOptions;
use hart_ha::kv::FailoverRequest;
use serde_json::json;

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::rest::{self, Answer};

/// A member answers when it is done, or has given up. Patroni's take up to 2 × `loop_wait`.
const DONE: Duration = Duration::from_secs(90);

/// Who took the request.
pub enum Done {
    /// A member did.
    Member {
        /// Its name.
        name: String,
        /// What it said.
        answer: Answer,
    },
    /// Nobody answered, so it lies in Consul.
    Written,
}

/// Asks the leader; where there is none or it cannot be reached, the candidate, then the others;
/// where nobody can, writes the key that they all watch.
///
/// # Errors
/// A member may have got the request but did not answer, or the key could not be written.
pub async fn send(
    context: &Context,
    cluster: &Cluster,
    what: &str,
    wanted: &FailoverRequest,
) -> Result<Done, Fail> {
    let body = json!({
        "leader": wanted.leader,
        "candidate": wanted.member,
        "scheduled_at": wanted.scheduled_at,
        "fenced": wanted.fenced,
    });
    for (name, api_url) in order(cluster, wanted) {
        let health = rest::url(api_url, "liveness");
        // Only a member that answers is given the request: one that takes it and dies would leave
        // us not knowing.
        if let Err(reason) = context.rest.get(&health, Duration::from_secs(2)).await {
            eprintln!("hart: {name} cannot be reached: {reason}");
            continue;
        }
        let url = rest::url(api_url, what);
        return match context.rest.post(&url, &body, DONE).await {
            Ok(answer) => Ok(Done::Member { name: name.to_owned(), answer }),
            Err(reason) => Err(Fail::failed(format!("{name} did not finish the {what}: {reason}"))
                .hint("it may still be in progress; look with `hart list`")),
        };
    }
    write(context, cluster, wanted).await
}

fn order<'a>(cluster: &'a Cluster, wanted: &FailoverRequest) -> Vec<(&'a str, &'a str)> {
    let mut members = cluster.leader_first();
    let rank = |name: &str| match (cluster.leader(), wanted.member.as_deref()) {
        (Some(leader), _) if leader == name => 0,
        (_, Some(candidate)) if candidate == name => 1,
        _ => 2,
    };
    members.sort_by_key(|(name, _)| rank(name));
    let reachable = members.into_iter().filter(|(_, member)| !member.api_url.is_empty());
    reachable.map(|(name, member)| (name, member.api_url.as_str())).collect()
}

async fn write(
    context: &Context,
    cluster: &Cluster,
    wanted: &FailoverRequest,
) -> Result<Done, Fail> {
    let key = format!("{}failover", context.prefix);
    let at = cluster.snapshot.failover.as_ref().map_or(0, |failover| failover.index);
    let value = serde_json::to_vec(wanted)
        .map_err(|error| Fail::from_error("cannot write the request", &error))?;
    if context.consul.kv().put(&key, value, &PutOptions::cas(at)).await? {
        return Ok(Done::Written);
    }
    Err(Fail::failed(format!("{key} was changed by somebody else at the same time"))
        .hint("look with `hart list`, then try again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    #[test]
    fn the_leader_is_asked_first_then_the_candidate() {
        let wanted = FailoverRequest { member: Some("n3".into()), ..FailoverRequest::default() };
        let names = |cluster: &Cluster| -> Vec<String> {
            order(cluster, &wanted).into_iter().map(|(name, _)| name.to_owned()).collect()
        };
        let mut cluster = made();
        assert_eq!(names(&cluster), ["n1", "n3", "n2"]);
        cluster.snapshot.leader = None;
        cluster.snapshot.status = None;
        assert_eq!(names(&cluster), ["n3", "n1", "n2"]);
    }
}
