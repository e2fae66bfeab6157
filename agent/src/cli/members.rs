//! Which members a command means.

use std::time::Duration;

use clap::ValueEnum;
use hart_ha::kv::{Member, Role};
use serde_json::Value;

use crate::cli::ask;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::rest::{self, Answer};

/// Members by role, in patronictl's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RoleFilter {
    /// The member that leads.
    #[value(alias = "leader", alias = "master")]
    Primary,
    /// The member that leads a standby cluster.
    StandbyLeader,
    /// Every other member.
    #[value(alias = "standby")]
    Replica,
    /// All.
    #[default]
    Any,
}

/// The members named, or all of that role where none is; asks at a terminal which of them. In the order
/// of the table that was shown, as patronictl has it.
///
/// # Errors
/// A name is unknown or has another role, or nobody is left.
pub fn select<'a>(
    cluster: &'a Cluster,
    names: &[String],
    role: RoleFilter,
    verb: &str,
    force: bool,
) -> Result<Vec<(&'a str, &'a Member)>, Fail> {
    let suitable: Vec<(&str, &Member)> =
        cluster.by_name().filter(|(name, _)| has_role(cluster, name, role)).collect();
    if suitable.is_empty() {
        return Err(Fail::failed(format!("cluster {} has no such member", cluster.scope)));
    }
    if names.is_empty() && !force && ask::is_interactive() {
        let known: Vec<&str> = suitable.iter().map(|(name, _)| *name).collect();
        let question = format!("Which member do you want to {verb} [{}]?", known.join(", "));
        let answer = ask::text(&question, "")?;
        let names: Vec<String> = answer.split([',', ' ']).map(str::to_owned).collect();
        let named: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        return named_only(cluster, &suitable, &named, verb);
    }
    if names.is_empty() { Ok(suitable) } else { named_only(cluster, &suitable, names, verb) }
}

/// Asks each in turn, and shows what it said by `tell` where that `is_fine`; who refuses or is silent is told to standard error.
///
/// # Errors
/// Some did not do it: their names.
pub async fn ask_each(
    context: &Context,
    chosen: &[(&str, &Member)],
    path: &str,
    body: &Value,
    within: Duration,
    is_fine: impl Fn(&Answer) -> bool,
    tell: impl Fn(&str, &Answer),
) -> Result<(), Vec<String>> {
    let mut failed = Vec::new();
    for (name, member) in chosen {
        match context.rest.post(&rest::url(&member.api_url, path), body, within).await {
            Ok(answer) if is_fine(&answer) => {
                tell(name, &answer);
                continue;
            }
            Ok(answer) => {
                eprintln!("hart: {name} answered {}: {}", answer.status, answer.text.trim());
            }
            Err(reason) => eprintln!("hart: {name}: {reason}"),
        }
        failed.push((*name).to_owned());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// Asks one member, the leader first, to do what any of them can: `call` gets the URL of `path`. A member
/// that cannot be reached is told to standard error, and the next one is asked.
///
/// # Errors
/// A member refuses it, or nobody can be reached.
pub async fn ask_one<F>(
    cluster: &Cluster,
    path: &str,
    call: impl Fn(String) -> F,
) -> Result<Answer, Fail>
where
    F: Future<Output = Result<Answer, String>>,
{
    let mut unknown = "";
    for (name, member) in cluster.leader_first() {
        match call(rest::url(&member.api_url, path)).await {
            Ok(answer) if answer.is_success() => return Ok(answer),
            Ok(answer) => {
                let said = format!("{name} answered {}: {}", answer.status, answer.text.trim());
                return Err(Fail::failed(format!("{said}{unknown}")));
            }
            Err(reason) => {
                eprintln!("hart: {name}: {reason}");
                unknown = "; a member that did not answer before may have done it";
            }
        }
    }
    Err(Fail::failed(format!("no member of cluster {} can be reached", cluster.scope))
        .hint("is the REST API reachable from here? `hart list` shows the members"))
}

fn named_only<'a>(
    cluster: &Cluster,
    suitable: &[(&'a str, &'a Member)],
    names: &[String],
    verb: &str,
) -> Result<Vec<(&'a str, &'a Member)>, Fail> {
    let find = |name: &String| {
        cluster.member(name)?;
        let found = suitable.iter().find(|(known, _)| known == name);
        found.copied().ok_or_else(|| {
            Fail::failed(format!("member \"{name}\" does not have the role that was asked for"))
                .hint("leave --role out, or name another member")
        })
    };
    let chosen: Vec<_> = names.iter().map(find).collect::<Result<_, _>>()?;
    if chosen.is_empty() {
        return Err(Fail::usage(format!("no member to {verb} was named")));
    }
    Ok(chosen)
}

fn has_role(cluster: &Cluster, name: &str, role: RoleFilter) -> bool {
    let leads = cluster.leader() == Some(name);
    match role {
        RoleFilter::Primary => leads,
        RoleFilter::StandbyLeader => {
            let member = cluster.snapshot.member(name);
            leads && member.is_some_and(|member| member.role == Role::StandbyLeader)
        }
        RoleFilter::Replica => !leads,
        RoleFilter::Any => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    fn names(found: Result<Vec<(&str, &Member)>, Fail>) -> Vec<String> {
        found.unwrap().into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn members_are_chosen_by_role_and_name() {
        let cluster = made();
        let by = |role| names(select(&cluster, &[], role, "restart", true));
        assert_eq!(by(RoleFilter::Any), ["n1", "n2", "n3"]);
        assert_eq!(by(RoleFilter::Primary), ["n1"]);
        assert_eq!(by(RoleFilter::Replica), ["n2", "n3"]);
        let one = select(&cluster, &["n3".into()], RoleFilter::Any, "restart", true);
        assert_eq!(names(one), ["n3"]);
    }

    #[test]
    fn a_wrong_name_or_role_is_refused() {
        let cluster = made();
        let chosen = |name: &str, role| select(&cluster, &[name.into()], role, "restart", true);
        assert!(chosen("n9", RoleFilter::Any).unwrap_err().to_string().contains("n9"));
        assert!(chosen("n1", RoleFilter::Replica).is_err());
    }
}
