//! `hart-sim`: see `--help`.

use std::num::NonZero;
use std::process::ExitCode;

use clap::Parser;
use hart_sim::agent::states::{CLASSES, class_name};
use hart_sim::clock::SEC;
use hart_sim::event::CAUSES;
use hart_sim::faults::KINDS;
use hart_sim::mutation::{ALL, Mutation};
use hart_sim::parallel;
use hart_sim::run::{Sum, run, run_in_force, run_revoking};

/// Tries to make two primaries or to lose a write, deterministically.
#[derive(Parser)]
struct Args {
    /// Run this many seeds
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run one seed and print what each node saw and did
    #[arg(long)]
    seed: Option<u64>,
    /// Switch each safety rule off in turn; each must be caught
    #[arg(long)]
    mutations: bool,
    /// Only mutations whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Seeds within which a mutation must be caught
    #[arg(long, default_value_t = 10_000)]
    within: u64,
    /// Run for so many simulated hours and print a summary
    #[arg(long)]
    hours: Option<u64>,
    /// Run one seed under the mutation named by --only
    #[arg(long)]
    mutant: Option<u64>,
    /// Run seeds with the faults of the one mutation named by --only, and its rule in force
    #[arg(long, requires = "only", conflicts_with_all = ["mutations", "mutant", "seed"])]
    in_force: bool,
    /// In each world the lease of a silent holder is revoked (`takeover: revoke`)
    #[arg(long, conflicts_with_all = ["mutations", "mutant", "in_force"])]
    revoke: bool,
    /// Threads; the results do not depend on their number [default: one for each processor]
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
}

impl Args {
    fn jobs(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, NonZero::get);
        self.jobs.map_or_else(all, NonZero::get)
    }
}

/// An optimised build ends at a panic: the seed must be said before.
fn name_the_seed_of_a_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(seed) = parallel::seed_of_this_thread() {
            eprintln!("seed {seed} panics; see `hart-sim --seed {seed}`");
        }
        usual(panic);
    }));
}

fn main() -> ExitCode {
    name_the_seed_of_a_panic();
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return one(seed, None, args.revoke);
    }
    if args.mutant.is_none() && !args.mutations && !args.in_force {
        return many(&args, None);
    }
    let named = |mutation: &Mutation| {
        args.only.as_ref().is_none_or(|only| mutation.name().contains(only.as_str()))
    };
    let meant: Vec<_> = ALL.iter().filter(|(mutation, _)| named(mutation)).collect();
    match (args.mutant, &meant[..]) {
        (_, []) => {
            let names: Vec<_> = ALL.iter().map(|(mutation, _)| mutation.name()).collect();
            eprintln!(
                "no mutation has \"{}\" in its name; there are: {}",
                args.only.as_deref().unwrap_or_default(),
                names.join(", ")
            );
            ExitCode::FAILURE
        }
        (Some(seed), [(mutation, _)]) => one(seed, Some(*mutation), false),
        (None, [(mutation, _)]) if args.in_force => many(&args, Some(*mutation)),
        (None, meant) if !args.in_force => mutations(&args, meant),
        _ => {
            eprintln!("--mutant and --in-force are for one mutation: name it with --only");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, mutation: Option<Mutation>, revoke: bool) -> ExitCode {
    let outcome = if revoke { run_revoking(seed, true) } else { run(seed, mutation, true) };
    for line in &outcome.trace {
        println!("{line}");
    }
    for (t, what) in &outcome.violations {
        println!("VIOLATION at {}.{:06}: {what}", t / SEC, t % SEC);
    }
    let mut sum = Sum::default();
    println!("hash {:016x}, {} events", outcome.hash, outcome.events);
    sum.add(outcome);
    println!("{}", sum.line());
    if sum.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutations(args: &Args, meant: &[&(Mutation, &str)]) -> ExitCode {
    let mut missed = false;
    for (mutation, rule) in meant {
        let name = mutation.name();
        let within = args.within * mutation.rarity();
        let caught = parallel::first(args.jobs(), args.from, within, |seed| {
            let outcome = run(seed, Some(*mutation), false);
            // A seed that fails by itself proves nothing.
            let found = outcome.violations.into_iter().find(|(_, what)| mutation.explains(what))?;
            let clean = run_in_force(seed, *mutation).violations.is_empty();
            clean.then_some(found.1)
        });
        missed |= caught.is_none();
        match caught {
            Some((seed, what)) => {
                let count = seed - args.from + 1;
                println!("{name:<32} caught after {count} seeds   {rule} | {what}");
            }
            None => println!("{name:<32} MISSED   {rule}"),
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn many(args: &Args, in_force: Option<Mutation>) -> ExitCode {
    let mut sum = Sum::default();
    let hours = args.hours.map(|hours| hours * 3600 * SEC);
    let seeds = args.seeds.unwrap_or(if hours.is_some() { u64::MAX } else { 1000 });
    parallel::each(
        args.jobs(),
        args.from,
        seeds,
        |seed| match in_force {
            Some(rule) => run_in_force(seed, rule),
            None if args.revoke => run_revoking(seed, false),
            None => run(seed, None, false),
        },
        |outcome| {
            for (t, what) in &outcome.violations {
                println!("seed {} at {}.{:03}: {what}", outcome.seed, t / SEC, t % SEC / 1000);
            }
            sum.add(outcome);
            hours.is_none_or(|hours| sum.took < hours)
        },
    );
    if args.hours.is_some() {
        summary(&sum);
    }
    println!("{}", sum.line());
    if sum.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(sum: &Sum) {
    println!(
        "{} events, {} writes acknowledged, {} changes of the primary, {} lost ends in async mode",
        sum.events, sum.writes, sum.changes, sum.lost
    );
    for kind in KINDS {
        let count = sum.faults.get(kind.name()).copied().unwrap_or_default();
        println!("fault {:<28} {count}", kind.name());
    }
    for state in (0..CLASSES).map(class_name) {
        let missing: Vec<_> =
            CAUSES.iter().filter(|cause| !sum.coverage.contains_key(&(state, **cause))).collect();
        if !missing.is_empty() {
            println!("never reached: {state} × {missing:?}");
        }
    }
}
