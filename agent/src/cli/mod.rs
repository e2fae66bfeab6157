//! The command line. What the options are for is written at their definitions, from which help and
//! reference page are made. Wrong usage has the exit code `EX_USAGE` of sysexits.h.

pub mod agent_args;
mod ask;
mod check;
mod cluster;
mod completions;
mod context;
mod dcs_url;
mod dns;
mod dsn;
mod events;
pub mod fail;
mod failover;
mod flush;
mod formats;
mod generate;
mod globals;
mod history;
mod list;
mod members;
mod out;
mod pause;
mod query;
mod reference;
mod reinit;
mod reload;
mod remove;
pub mod rest;
mod restart;
mod roll;
mod settings;
mod shared;
mod simulate;
mod table;
mod template;
mod told;
mod upgrade;
mod version;
mod watch;
mod when;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use agent_args::AgentArgs;
pub use cluster::below_prefix;
pub use dcs_url::parse as parse_dcs_url;
pub use dsn::{Dsn, DsnFormat, Unread};
pub use fail::Fail;
pub use globals::Globals;
pub use members::RoleFilter;
pub use table::render as render_table;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 64 wrong usage or configuration. Data goes to stdout, everything \
     else to stderr.";

/// Keeps a PostgreSQL cluster writable, with Consul for agreement and discovery.
#[derive(Debug, Parser)]
#[command(name = "hart", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of one node.
    Agent(AgentArgs),
    /// Internal: the process between agent and PostgreSQL that fences when the lease ends.
    #[command(disable_help_flag = true)]
    Guard {
        /// The agent gives them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Show the members of a cluster.
    List(list::ListArgs),
    /// Show the leader, and who follows it.
    Topology(list::TopologyArgs),
    /// Show the members and their last events, live.
    Watch(watch::WatchArgs),
    /// Give the primary's role to another member, in good order.
    Switchover(failover::SwitchoverArgs),
    /// Promote a named member, also when there is no primary.
    Failover(failover::FailoverArgs),
    /// Make members' data directories anew from a base backup.
    Reinit(reinit::ReinitArgs),
    /// Restart PostgreSQL of members.
    Restart(restart::RestartArgs),
    /// Restart all members one by one, so that clients do not notice: parameters, a minor version, a new hart.
    Roll(roll::RollArgs),
    /// Have members' agents read their configuration files again.
    Reload(reload::ReloadArgs),
    /// Replace members' agents by the binary that is installed now, while PostgreSQL goes on.
    UpgradeAgent(upgrade::UpgradeArgs),
    /// Take planned restarts or the planned switchover back.
    Flush(flush::FlushArgs),
    /// Begin maintenance: nobody takes over, and nothing is mended by itself.
    Pause(pause::PauseArgs),
    /// End maintenance.
    Resume(pause::PauseArgs),
    /// Show the settings that all nodes share.
    ShowConfig(shared::ShowArgs),
    /// Change the settings that all nodes share.
    EditConfig(shared::EditArgs),
    /// Show the ends of the timelines: when the leader changed.
    History(history::HistoryArgs),
    /// Delete all that Consul knows of a cluster.
    Remove(remove::RemoveArgs),
    /// Show who saw and did what when, and how long each change of the leader took.
    Events(events::EventsArgs),
    /// Tell which members may lead, and why the others may not.
    Why(why::WhyArgs),
    /// Tell what would happen if a member or Consul were lost, without touching anything.
    Simulate(simulate::SimulateArgs),
    /// Ask a member's PostgreSQL.
    Query(query::QueryArgs),
    /// Print a connection string with all members.
    Dsn(dsn::DsnArgs),
    /// Render a file for HAProxy, PgBouncer, keepalived, systemd or Consul.
    Template(template::TemplateArgs),
    /// Answer DNS questions about every cluster in Consul, without an agent.
    Dns(dns::DnsArgs),
    /// Write a node's configuration file from the PostgreSQL that runs here.
    GenerateConfig(generate::RunningArgs),
    /// Write a sample of a node's configuration file.
    GenerateSampleConfig(generate::SampleArgs),
    /// Check a configuration file and this machine.
    Check(check::CheckArgs),
    /// Try hart on this machine: three nodes, a Consul and a writer.
    Demo(crate::demo::DemoArgs),
    /// Print completions for a shell.
    Completions(completions::CompletionsArgs),
    /// Write the manual pages.
    Man(completions::ManArgs),
    /// Print a page of the reference in Markdown.
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
    /// Show hart's version, and with a cluster those of its members.
    Version(version::VersionArgs),
}

/// Reads the arguments and does what they say.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            // Help and version come this way, too. A closed stdout is no reason to fail.
            let _ = error.print();
            if error.use_stderr() { fail::USAGE.into() } else { ExitCode::SUCCESS }
        }
    }
}

impl Cli {
    fn run(self) -> ExitCode {
        let globals = &self.globals;
        let done = match self.command {
            Command::Agent(args) => return crate::node::run(args),
            Command::Guard { arguments } => return exit_code(hart_guard::run(arguments)),
            Command::Demo(args) => return crate::demo::run(args),
            Command::List(args) => on_runtime(list::run(globals, args)),
            Command::Topology(args) => on_runtime(list::topology(globals, args)),
            Command::Watch(args) => on_runtime(watch::run(globals, args)),
            Command::Switchover(args) => on_runtime(failover::switchover(globals, args)),
            Command::Failover(args) => on_runtime(failover::failover(globals, args)),
            Command::Reinit(args) => on_runtime(reinit::run(globals, args)),
            Command::Restart(args) => on_runtime(restart::run(globals, args)),
            Command::Roll(args) => on_runtime(roll::run(globals, args)),
            Command::Reload(args) => on_runtime(reload::run(globals, args)),
            Command::UpgradeAgent(args) => on_runtime(upgrade::run(globals, args)),
            Command::Flush(args) => on_runtime(flush::run(globals, args)),
            Command::Pause(args) => on_runtime(pause::pause(globals, args)),
            Command::Resume(args) => on_runtime(pause::resume(globals, args)),
            Command::ShowConfig(args) => on_runtime(shared::show(globals, args)),
            Command::EditConfig(args) => on_runtime(shared::edit(globals, args)),
            Command::History(args) => on_runtime(history::run(globals, args)),
            Command::Remove(args) => on_runtime(remove::run(globals, args)),
            Command::Completions(args) => completions::completions(&args),
            Command::Man(args) => completions::man(&args),
            Command::Events(args) => on_runtime(events::run(globals, args)),
            Command::Why(args) => on_runtime(why::run(globals, args)),
            Command::Simulate(args) => on_runtime(simulate::run(globals, args)),
            Command::Query(args) => on_runtime(query::run(globals, args)),
            Command::Dsn(args) => on_runtime(dsn::run(globals, args)),
            Command::Dns(args) => on_runtime(dns::run(globals, args)),
            Command::Template(args) => on_runtime(template::run(globals, args)),
            Command::GenerateConfig(args) => on_runtime(generate::running(args)),
            Command::GenerateSampleConfig(args) => generate::sample(&args),
            Command::Check(args) => on_runtime(check::run(args)),
            Command::Reference(args) => return reference::run(&args),
            Command::Version(args) => on_runtime(version::run(globals, args)),
        };
        done.unwrap_or_else(|fail| fail.report())
    }
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Runs a command to its end on a runtime of its own, on this thread.
///
/// # Errors
/// Those of the command, or the operating system gives no runtime.
pub fn on_runtime<T>(work: impl Future<Output = Result<T, Fail>>) -> Result<T, Fail> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fail::from_error("cannot start", &error))?;
    let done = runtime.block_on(work);
    // Nobody waits for a thread that still looks up a host name.
    runtime.shutdown_background();
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn patronictls_ways_of_writing_are_understood() {
        for line in [
            "hart -c f.yml list ha -f json -e -w 2",
            "hart -d consul://h:8500/service list -W",
            "hart switchover ha --leader n1 --candidate n2 --force",
            "hart switchover ha --primary n1 --scheduled now",
            "hart failover ha --candidate n2",
            "hart reinit ha n1 n2 --force --wait",
            "hart restart ha -r replica --any --force",
            "hart restart ha n2 --scheduled 2027-03-01T02:00:00Z --pg-version 15.4 --force",
            "hart reload ha n1 --force",
            "hart roll ha --keep 1 --in-place --mixed --timeout 60 --dry-run --force",
            "hart roll ha --pg-version 15.15",
            "hart roll ha --agents",
            "hart roll ha --all --anew",
            "hart upgrade-agent ha n1 -r replica --no-check --force",
            "hart dsn ha -r replica -f uri -d app -U me",
            "hart dsn ha --bulk",
            "hart dns --zone pg.test --listen 127.0.0.1:5353 --consul 127.0.0.1:8500",
            "hart template haproxy ha -o f --watch --exec true --set rw_port=1 --template-dir d",
            "hart template --list",
            "hart agent f.yml --user postgres --log-level debug --log-type json",
            "hart check f.yml",
            "hart list ha -t",
            "hart topology ha -W",
            "hart pause ha --wait",
            "hart resume ha --wait",
            "hart show-config ha",
            "hart edit-config ha -q -s ttl=5 -s loop_wait=1 -p max_connections=200 --force",
            "hart edit-config ha --apply - --force",
            "hart edit-config ha --replace f",
            "hart history ha -f tsv",
            "hart flush ha n1 restart --force -r replica",
            "hart flush ha switchover",
            "hart remove ha",
            "hart events ha -f json --last 5 --brief",
            "hart events --since 10min --follow",
            "hart why ha n2 -f yaml",
            "hart simulate ha --lose n1,n2 -f json",
            "hart generate-config --dsn host=/tmp n1.yml",
            "hart generate-sample-config",
            "hart query ha -c SELECT -m n1 -U me -d app --format json",
            "hart query ha -f - -r replica -W --password --delimiter ;",
            "hart version ha n1 n2",
            "hart list ha other -f tsv",
            "hart topology ha other",
            "hart restart ha --timeout 30 --force",
            "hart restart ha --timeout 2min -r standby-leader --pending",
            "hart reinit ha n1 --from-leader --force",
            "hart dsn ha -m n2",
            "hart dsn ha --member n2 -f uri",
            "hart demo --check --consul 127.0.0.1:8500 --keep",
        ] {
            let parsed = Cli::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        }
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "hart",
            "hart template",
            "hart template x --watch",
            "hart lst",
            "hart list --format xml",
            "hart check",
            "hart roll --all --agents",
            "hart roll --anew",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
