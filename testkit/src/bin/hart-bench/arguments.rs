//! The command line.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::scenario::Scenario;

/// Runs of each scenario unless told otherwise.
const RUNS: usize = 5;

/// What to measure, and how often.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) runs: usize,
    /// The table of the clients' ways.
    pub(crate) clients: bool,
    /// What answers on the command line cost.
    pub(crate) cli: bool,
    /// A rolling restart.
    pub(crate) roll: bool,
    /// Another build of `hart`, measured in turn with this one.
    pub(crate) baseline: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Self {
            scenarios: Vec::new(),
            runs: RUNS,
            clients: false,
            cli: false,
            roll: false,
            baseline: None,
        };
        let mut only = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--runs" => parsed.runs = runs(arguments.next())?,
                "clients" => parsed.clients = true,
                "cli" => parsed.cli = true,
                "roll" => parsed.roll = true,
                "failover" => parsed.scenarios.extend(Scenario::failover()),
                "--baseline" => parsed.baseline = Some(baseline(arguments.next())?),
                "--only" => only = Some(arguments.next().context("--only needs a name")?),
                "all" => parsed.scenarios.extend(Scenario::ALL),
                name => parsed.scenarios.push(scenario(name)?),
            }
        }
        if let Some(name) = only {
            parsed.scenarios = vec![scenario(&name)?];
        }
        ensure!(
            parsed.baseline.is_none() || !(parsed.clients || parsed.cli || parsed.roll),
            "--baseline goes with scenarios, not with clients, cli or roll"
        );
        if parsed.scenarios.is_empty() && !parsed.clients && !parsed.cli && !parsed.roll {
            parsed.scenarios.extend(Scenario::ALL);
        }
        Ok(parsed)
    }
}

fn runs(value: Option<String>) -> Result<usize> {
    let value = value.context("--runs needs a number")?;
    let number = value.parse().with_context(|| format!("--runs {value}: not a number"))?;
    ensure!(number > 0, "--runs must be at least 1");
    Ok(number)
}

fn baseline(value: Option<String>) -> Result<PathBuf> {
    let value = value.context("--baseline needs the path of a hart binary")?;
    let path = PathBuf::from(&value);
    path.canonicalize().with_context(|| format!("--baseline {value}: no such binary"))
}

fn scenario(name: &str) -> Result<Scenario> {
    let Some(found) = Scenario::ALL.into_iter().find(|scenario| scenario.name() == name) else {
        let names = Scenario::ALL.map(Scenario::name).join(", ");
        bail!("no scenario {name:?}; there are {names}, cli, clients, roll, failover and all");
    };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn scenarios_and_runs() {
        let some = parse("crash --runs 2 up").expect("valid");
        assert_eq!((some.scenarios, some.runs), (vec![Scenario::Crash, Scenario::Up], 2));
        assert!(!some.clients && some.baseline.is_none());
        assert_eq!(parse("").expect("valid").scenarios, Scenario::ALL);
        assert_eq!(parse("all").expect("valid").runs, RUNS);
    }

    #[test]
    fn one_of_the_failovers() {
        let failover = parse("failover").expect("valid").scenarios;
        assert!(failover.len() == Scenario::ALL.len() - 3 && !failover.contains(&Scenario::Up));
        let only = parse("failover --only partition --runs 3").expect("valid");
        assert_eq!((only.scenarios, only.runs), (vec![Scenario::Partition], 3));
        let clients = parse("clients --runs 3").expect("valid");
        assert!(clients.clients && clients.scenarios.is_empty());
        let cli = parse("cli --runs 9").expect("valid");
        assert!(cli.cli && cli.scenarios.is_empty() && cli.runs == 9);
        let roll = parse("roll --runs 3").expect("valid");
        assert!(roll.roll && !roll.clients && roll.scenarios.is_empty());
    }

    #[test]
    fn another_build_beside() {
        let beside = parse("failover --only crash --baseline /bin/sh").expect("valid");
        let name = beside.baseline.as_deref().and_then(std::path::Path::file_name);
        assert!(name.is_some() && beside.scenarios == [Scenario::Crash]);
    }

    #[test]
    fn mistakes_are_named() {
        for line in [
            "crush",
            "--only",
            "--only crush",
            "--runs",
            "--runs x",
            "--runs 0",
            "up --baseline",
            "up --baseline /nowhere/hart",
            "clients --baseline /bin/sh",
            "cli --baseline /bin/sh",
            "roll --baseline /bin/sh",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("crush").expect_err("wrong").to_string().contains("node-lost"));
    }
}
