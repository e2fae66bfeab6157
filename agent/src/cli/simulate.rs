//! `hart simulate`: what would happen if … ? The real brain and the real keeper of the lease
//! (`hart-ha`), put into the places in which the members are now, run on in virtual time after the
//! fault. Nothing is changed anywhere.
//!
//! | file | what |
//! |---|---|
//! | `fault` | what goes wrong |
//! | `look` | asks Consul and the members for the present state |
//! | `store` | Consul, as far as the brain uses it |
//! | `node` | one member: brain, keeper, guard, PostgreSQL |
//! | `world` | all of them in virtual time |
//! | `outcome` | what came of it |
//! | `show` | in words |

mod fault;
mod look;
mod node;
mod outcome;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod world;

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::Format;
use crate::cli::globals::Globals;

/// Arguments of `hart simulate`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("fault").required(true))]
pub struct SimulateArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// The hosts of these members are lost at the same moment, with all that runs on them.
    #[arg(long, value_name = "MEMBER", group = "fault", value_delimiter = ',')]
    lose: Vec<String>,
    /// These members are cut off, from Consul and from all others; together they are not.
    #[arg(long, value_name = "MEMBER", group = "fault", value_delimiter = ',')]
    partition: Vec<String>,
    /// Consul answers nobody any more.
    #[arg(long, group = "fault")]
    consul_down: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
}

/// Looks at the cluster, and tells what would happen.
///
/// # Errors
/// The cluster cannot be read, has no such member, or too little is known of it.
pub async fn run(globals: &Globals, args: SimulateArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let fault = fault::Fault::of(&args, &cluster)?;
    let look = look::look(&context, cluster).await?;
    let outcome = outcome::of(&look, &fault);
    let text = show::render(&look, &fault, &outcome, args.format);
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
