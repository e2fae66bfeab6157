//! A PostgreSQL that runs already when an agent is started here for the first time. hart has never had it,
//! so it is never killed: it is left alone and the agent does not start, or, where a person says so, it is
//! stopped in good order and started under a guard.

use std::time::Duration;

use hart_config::Config;
use hart_consul::{Client, ReadOptions};
use hart_postgres::{AtWork, Postgres};
use hart_types::Chain;

use super::keys::Keys;
use super::server::Server;
use super::start::StartError;

/// How long Consul may take to say which cluster this is to be.
const ASK: Duration = Duration::from_secs(10);
/// How long the data directory's disk may take.
const LOOK: Duration = Duration::from_secs(10);

/// Makes room for a PostgreSQL under a guard.
///
/// # Errors
/// Why the server is left alone, and what a person can do.
pub(super) async fn take_over(
    server: &Server,
    postgres: &Postgres,
    config: &Config,
    client: &Client,
    found: &AtWork,
    adopt: bool,
) -> Result<(), StartError> {
    let data_dir = config.postgresql.data_dir.display();
    let refuse = |why: String| {
        StartError::Refused(format!(
            "PostgreSQL runs already in {data_dir} ({}): {why}",
            found.words
        ))
    };
    if !adopt {
        return Err(refuse(
            "it is not hart's, and is left alone. Stop it and start the agent again; or start the agent with \
             --adopt, which stops it in good order (fast) and starts it under hart's guard"
                .to_owned(),
        ));
    }
    is_ours_to_stop(found.pid).map_err(&refuse)?;
    is_this_cluster(postgres, config, client).await.map_err(&refuse)?;
    let stopped = server.stop_found(found, config.postgresql.pg_ctl_timeout).await;
    stopped.map_err(|why| {
        refuse(format!("{why}; it is left alone: see its log, then start the agent again"))
    })
}

/// Another user's server is not started again by this one.
fn is_ours_to_stop(pid: i32) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(format!("/proc/{pid}"))
        .map_err(|error| format!("its user cannot be found out: {error}"))?
        .uid();
    let me = nix::unistd::geteuid().as_raw();
    if owner == me {
        return Ok(());
    }
    Err(format!("it belongs to user {owner}, and this agent to {me}: start the agent as that user"))
}

/// What Consul knows under this scope may be another cluster.
async fn is_this_cluster(
    postgres: &Postgres,
    config: &Config,
    client: &Client,
) -> Result<(), String> {
    let control = postgres.control_data(LOOK).await.map_err(|error| Chain(&error).to_string())?;
    let control = control.system_identifier;
    let key = Keys::new(config.kv_prefix()).key("initialize");
    let answer = client.with_timeout(ASK).kv().get(&key, &ReadOptions::consistent()).await;
    let answer = answer.map_err(|error| {
        format!("Consul does not say which cluster {} is: {}", config.scope, Chain(&error))
    })?;
    let known = answer.value.map(|pair| String::from_utf8_lossy(&pair.value).into_owned());
    match known.filter(|known| !known.is_empty() && *known != control) {
        None => Ok(()),
        Some(known) => Err(format!(
            "it has system identifier {control}, and cluster {} in Consul has {known}: this is another \
             cluster's; check scope and data_dir",
            config.scope
        )),
    }
}
