//! What can be done to the cluster.

use std::time::Duration;

use serde_json::json;

use super::cluster::Demo;
use crate::cli::Fail;

/// A member answers when the switchover is done, or has given up.
const DONE: Duration = Duration::from_secs(90);

/// SIGKILL for the primary's postmaster; its process id and those of its children, which follow.
///
/// # Errors
/// Nobody leads, or its PostgreSQL is not running.
pub fn kill_postmaster(demo: &mut Demo) -> Result<Vec<i32>, Fail> {
    let node = demo.leader()?;
    let (name, (pid, mut dying)) = (node.name.clone(), node.kill_postmaster()?);
    demo.timeline.add(format!("kill -9 {pid}: the postmaster of the primary, {name}"));
    dying.push(pid);
    Ok(dying)
}

/// SIGKILL for agent, guard and PostgreSQL of the primary; its name.
///
/// # Errors
/// Nobody leads, or a process survives.
pub async fn lose_primary(demo: &mut Demo) -> Result<String, Fail> {
    let node = demo.leader()?;
    node.lose().await?;
    let name = node.name.clone();
    demo.timeline.add(format!("{name} is lost: kill -9 of its agent, guard and PostgreSQL"));
    Ok(name)
}

/// Starts the agents of lost nodes; their names.
///
/// # Errors
/// One cannot be started.
pub fn bring_back(demo: &mut Demo) -> Result<Vec<String>, Fail> {
    let mut back = Vec::new();
    for node in &mut demo.nodes {
        if !node.is_up() {
            node.start(&demo.place)?;
            back.push(node.name.clone());
        }
    }
    for name in &back {
        demo.timeline.add(format!("{name} is started again"));
    }
    Ok(back)
}

/// A switchover that was asked for.
pub type Switchover = tokio::task::JoinHandle<Result<String, String>>;

/// Asks the leader's REST API for a switchover to the best candidate.
///
/// # Errors
/// Nobody leads.
pub fn switchover(demo: &mut Demo) -> Result<Switchover, Fail> {
    let node = demo.leader()?;
    let (name, url) = (node.name.clone(), node.url("switchover"));
    let (rest, body) = (demo.rest.clone(), json!({"leader": name}));
    demo.timeline.add(format!("switchover: POST {url}"));
    Ok(tokio::spawn(async move {
        let answer = rest.post(&url, &body, DONE).await?;
        let text = format!("{} {}", answer.status, answer.text.trim());
        if answer.is_success() { Ok(text) } else { Err(text) }
    }))
}
