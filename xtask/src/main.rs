//! The chores of the project: `cargo xtask demo|test|bench|torture|sim|patroni-suite|docs|package|sandbox|setup`.

#![forbid(unsafe_code)]

mod bench_dns;
mod command;
mod docs;
mod package;
mod patroni_suite;
mod roots;
mod sandbox;
mod servers;
mod setup;
mod tasks;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]

  demo [ARGUMENTS]   install what is missing, build, and run `hart demo ARGUMENTS`
  test [ARGUMENTS]   install what is missing, check format and lints, and run every test; without
                     ARGUMENTS also 2,000 seeds and all mutations of the simulator;
                     ARGUMENTS go to the test runner (cargo-nextest if there is one)
  test --postgres 13|14|15|16|17|18|19 [--short] [--postgres-bin DIR] [ARGUMENTS]
                     run what needs a server on one of that version: from DIR, as installed, or
                     fetched into target/postgresql; --short takes two minutes on two cores
  test --upgrade OLD NEW [ARGUMENTS]
                     `hart roll` from one minor release of PostgreSQL to another under a cluster:
                     versions such as 17.9 17.11 (fetched as above), or folders of programs
  test --before BINARY [ARGUMENTS]
                     another build of hart and this one in one cluster, and in the place of each other
  bench [failover|up|memory|rest|all] [--only SCENARIO] [--runs N] [--baseline BINARY]
                     measure on real hosts in network namespaces, next to Patroni's numbers; with
                     --baseline that build and this one in turn, and the ratio of each row
  bench clients [--runs N]
                     what each way to the primary loses in a switchover, by a lost primary and
                     while Consul is away
  bench cli [--runs N]
                     what hart list, why and events take beside patronictl list (Patroni 4.1.5 from
                     Python's package index), and with a host lost or cut off
  bench roll [--runs N]
                     what a rolling restart of three nodes costs clients of PgBouncer, and pgbench;
                     beside it `patronictl restart`, of the same cluster and of one that Patroni runs
  torture [--minutes M] [--seed N] [--sync|--quorum] [--revoke] [--servers 1|3|5] [--logs DIR]
                     random faults on real hosts, with an account of every row
  bench dns [--clusters N] [--seconds S]
                     answers per second of the DNS responder, next to Consul's
  sim --seeds N [--from S] | --seed N | --mutations | --hours H
                     run the decisions against models of everything else, with faults
  patroni-suite DIR [FEATURE...] [--jobs N] [--work FOLDER]
                     run Patroni's behaviour suite against hart, from DIR, a checkout of
                     patroni/patroni; with --work, logs and Python's environment are kept there;
                     as root it runs as user postgres, each feature in a network of its own
  docs [--check]     write docs/reference from the definitions; with --check, fail if it is stale
  package [--revision N] | --check
                     make a Debian package and a tarball in target/package; with --check, install,
                     upgrade, remove and purge it in a clean Debian 12, and have lintian look at it
  sandbox [--keep]   provision the machines of vagrant/ by its scripts, in containers with systemd, and
                     try them out: switchover, DNS, killed agents, an upgrade, rules and dashboards
  setup              only install what is missing

Installing, tests on real hosts and the benchmark need root.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match name.as_str() {
        "demo" => tasks::demo(&rest),
        "test" => tasks::test(&rest),
        "bench" if rest.first().is_some_and(|what| what == "dns") => bench_dns::bench(&rest[1..]),
        "bench" => tasks::bench(&rest),
        "torture" => tasks::torture(&rest),
        "sim" => tasks::sim(&rest),
        "patroni-suite" => patroni_suite::suite(&rest),
        "docs" => docs::docs(&rest),
        "package" => package::package(&rest),
        "sandbox" => sandbox::sandbox(&rest),
        "setup" => setup::install(&setup::EVERYTHING),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
