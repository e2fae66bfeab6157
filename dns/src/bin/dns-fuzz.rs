//! Puts malformed packets to the responder: `dns-fuzz [--inputs N] [--seed N]`. Ends with 1 at the
//! first answer that must not be; a panic ends it, too. Speed needs `--release`.

use std::process::ExitCode;
use std::sync::Arc;

use hart_dns::{Cluster, Counters, Fuzz, Member, Name, Publisher, Responder, Settings, Tally};

const NAMES: [&str; 7] = [
    "primary.ha.pg.test",
    "_postgresql._tcp.replica.ha.pg.test",
    "replica.ha.pg.test",
    "n3.ha.pg.test",
    "pg.test",
    "example.org",
    "",
];
/// Packets between two lines of progress.
const PART: u64 = 1_000_000;

fn main() -> ExitCode {
    let (mut inputs, mut seed) = (10_000_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let number = arguments.next().and_then(|text| text.parse().ok());
        match (option.as_str(), number) {
            ("--inputs", Some(number)) => inputs = number,
            ("--seed", Some(number)) => seed = number,
            _ => {
                eprintln!("usage: dns-fuzz [--inputs N] [--seed N]");
                return ExitCode::from(64);
            }
        }
    }
    match run(inputs, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("seed {seed}: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(inputs: u64, seed: u64) -> Result<(), String> {
    let settings = Settings::new(Name::parse("pg.test").map_err(|error| error.to_string())?);
    let publisher = Publisher::new(settings, 1);
    publisher.put(cluster()?, None);
    publisher.ready();
    let responder = Responder::new(publisher, Arc::new(Counters::default()));
    let mut fuzz = Fuzz::new(seed, &NAMES);
    let mut sum = Tally::default();
    while sum.inputs < inputs {
        let part = fuzz.run(&responder, PART.min(inputs - sum.inputs))?;
        sum = Tally {
            inputs: sum.inputs + part.inputs,
            bytes_in: sum.bytes_in + part.bytes_in,
            answers: sum.answers + part.answers,
            bytes_out: sum.bytes_out + part.bytes_out,
            longest: sum.longest.max(part.longest),
        };
        println!(
            "{} packets, {} bytes in, {} answers, {} bytes out, the longest {}",
            sum.inputs, sum.bytes_in, sum.answers, sum.bytes_out, sum.longest
        );
    }
    Ok(())
}

/// Wide enough for truncation.
fn cluster() -> Result<Cluster, String> {
    let member = |n: u8| {
        let host = if n % 4 == 3 { format!("fd00::{n}") } else { format!("10.0.0.{n}") };
        let host = host.parse().map_err(|error: hart_dns::NameError| error.to_string())?;
        let facts = vec!["role=replica".to_owned()];
        Ok(Member { name: format!("n{n}"), host, port: 5432, reads: n > 1, sync: n == 2, facts })
    };
    let members = (1..60).map(member).collect::<Result<_, String>>()?;
    let (scope, primary) = ("ha".to_owned(), Some("n1".to_owned()));
    Ok(Cluster { scope, members, primary, proxies: Vec::new() })
}
