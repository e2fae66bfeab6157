//! `hart`: keeps a PostgreSQL cluster writable, with Consul for agreement and discovery.

mod api;
mod cli;
mod demo;
mod dns;
mod journal;
mod node;
mod template;
mod vip;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "guard") {
        // Before any thread, runtime or parser: the guard forks, and it allocates little.
        std::process::exit(hart_guard::run(arguments.collect()));
    }
    cli::run()
}
