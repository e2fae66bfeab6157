//! `hart reload`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::ask;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::list;
use crate::cli::members::{self, RoleFilter};
use crate::cli::rest::Answer;

/// An agent reads its file at once.
const DONE: Duration = Duration::from_secs(30);

/// Arguments of `hart reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The members; without any, all that have the role.
    members: Vec<String>,
    /// Only members with this role.
    #[arg(short, long, value_enum, default_value = "any")]
    role: RoleFilter,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Has the members' agents read their configuration files again, and shows what of it is not in force then.
///
/// # Errors
/// The answer was no, or a member did not take its file.
pub async fn run(globals: &Globals, args: ReloadArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    if !args.force && ask::is_interactive() {
        list::print_before(&cluster);
    }
    let chosen = members::select(&cluster, &args.members, args.role, "reload", true)?;
    let names: Vec<&str> = chosen.iter().map(|(name, _)| *name).collect();
    let question = format!("Are you sure you want to reload {}?", names.join(", "));
    ask::confirm(&question, args.force)?;
    let tell = |name: &str, answer: &Answer| {
        println!("{name}: the configuration is read again");
        let left_over = answer.text.lines().skip(1);
        left_over.for_each(|line| println!("{name}: {line}"));
    };
    members::ask_each(&context, &chosen, "reload", &json!({}), DONE, Answer::is_success, tell)
        .await
        .map_err(|failed| Fail::failed(format!("not reloaded: {}", failed.join(", "))))?;
    Ok(ExitCode::SUCCESS)
}
