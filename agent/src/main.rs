//! `hart`: keeps a PostgreSQL cluster writable, with Consul for agreement and discovery.

mod api;
mod bouncer;
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
    let first = arguments.next();
    if first.as_deref().is_some_and(|first| first == bouncer::last_will::ARGUMENT) {
        std::process::exit(bouncer::last_will::run());
    }
    if first.is_some_and(|first| first == "guard") {
        // Before any thread, runtime or parser: the guard forks, and it allocates little.
        std::process::exit(hart_guard::run(arguments.collect()));
    }
    let code = cli::run();
    node::flush_log();
    code
}
