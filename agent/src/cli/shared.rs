//! `hart show-config` and `hart edit-config`: the settings that all nodes share.

mod change;
mod editor;
mod write;
mod yaml;

use std::process::ExitCode;

use clap::Args;
use hart_config::{out_of_range, shared_without_effect};
use hart_ha::kv::DynamicConfig;
use serde_json::{Map, Value};

use self::change::Changes;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::{ask, out};

/// Arguments of `hart show-config`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
}

/// Arguments of `hart edit-config`.
#[derive(Args, Clone, Debug)]
pub struct EditArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// Do not show what changes.
    #[arg(short, long)]
    quiet: bool,
    /// Set a key, such as `postgresql.use_slots=true` or `ttl=5`; `null` as the value removes it.
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Set a PostgreSQL parameter, such as `max_connections=200`.
    #[arg(short, long = "pg", value_name = "KEY=VALUE")]
    pg: Vec<String>,
    /// Merge the YAML of this file into the settings; `-` is standard input.
    #[arg(long = "apply", value_name = "FILE")]
    apply: Option<String>,
    /// Put the YAML of this file in the place of the settings; `-` is standard input.
    #[arg(long = "replace", value_name = "FILE")]
    replace: Option<String>,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Prints the settings as YAML.
///
/// # Errors
/// The cluster cannot be read, or has none.
pub async fn show(globals: &Globals, args: ShowArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let (settings, _) = stored(&cluster)?;
    Ok(out::print(yaml::block(&Value::Object(settings)).trim_end()))
}

/// Changes the settings: by the options, or in `$EDITOR`. Shows what changes, asks, and writes them if
/// nobody else has changed them meanwhile.
///
/// # Errors
/// The change cannot be read, the answer was no, a member refused it, or somebody was faster.
pub async fn edit(globals: &Globals, args: EditArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let (before, version) = stored(&cluster)?;
    let changes = Changes { replace: args.replace, apply: args.apply, set: args.set, pg: args.pg };
    let from_stdin = changes.reads_stdin();
    let after = match changes.make(&before)? {
        Some(after) => after,
        None => editor::edit(&cluster.scope, &before)?,
    };
    if after == before {
        if !args.quiet {
            println!("Not changed");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.quiet {
        out::print(&diff(&before, &after));
    }
    for warning in warnings(&before, &after) {
        eprintln!("hart: warning: {warning}");
    }
    if from_stdin && !args.force {
        let text = "the answer cannot come from where the change has come from";
        return Err(Fail::usage(text).hint("add --force to apply it"));
    }
    ask::confirm("Apply these changes?", args.force)?;
    write::write(&context, &cluster, &before, after, version).await
}

/// What is stored, and its version.
fn stored(cluster: &Cluster) -> Result<(Map<String, Value>, u64), Fail> {
    let stored = cluster.snapshot.config.as_ref();
    stored.map(|stored| (stored.value.raw.clone(), stored.index)).ok_or_else(|| {
        Fail::failed(format!("cluster {} has no shared settings yet", cluster.scope))
            .hint("the member that begins the cluster writes those of `bootstrap.dcs`")
    })
}

/// The lines that change, with three of what stands around them.
fn diff(before: &Map<String, Value>, after: &Map<String, Value>) -> String {
    let text = |settings: &Map<String, Value>| yaml::block(&Value::Object(settings.clone()));
    let (before, after) = (text(before), text(after));
    let lines = similar::TextDiff::from_lines(&before, &after);
    lines
        .unified_diff()
        .context_radius(3)
        .header("before", "after")
        .to_string()
        .trim_end()
        .to_owned()
}

/// What of the new settings nobody reads, or takes as it is; what was there before is not said again.
fn warnings(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let of = |settings: &Map<String, Value>| -> Vec<String> {
        // What cannot be read is refused in a moment, with the reason.
        let read = DynamicConfig::from_raw(settings.clone()).unwrap_or_default();
        shared_without_effect(&read).into_iter().chain(out_of_range(&read)).collect()
    };
    let known = of(before);
    of(after).into_iter().filter(|warning| !known.contains(warning)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_typing_error_is_said_where_it_is_made() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let before = map(json!({"parse": 1}));
        let after = map(json!({"parse": 1, "synchronous_mod": true,
            "postgresql": {"parameters": {"max_connections": 5}}}));
        assert_eq!(
            warnings(&before, &after),
            [
                "synchronous_mod: nobody knows this setting; is synchronous_mode meant?",
                "max_connections: \"5\" is out of range; 100 is used",
            ]
        );
    }

    #[test]
    fn a_diff_shows_what_changes() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let before = map(json!({"ttl": 30, "loop_wait": 10, "postgresql": {"use_slots": true}}));
        let after = map(json!({"ttl": 5, "loop_wait": 10, "postgresql": {"use_slots": true}}));
        let shown = diff(&before, &after);
        assert!(shown.contains("\n-ttl: 30\n+ttl: 5\n"), "{shown}");
        assert!(!shown.contains("-loop_wait"), "{shown}");
    }
}
