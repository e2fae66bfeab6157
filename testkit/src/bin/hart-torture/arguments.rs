//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// What commits wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Asynchronous,
    Synchronous,
    /// Any one of the standbys.
    Quorum,
}

impl Mode {
    /// For people, and for names of directories.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Asynchronous => "asynchronous",
            Self::Synchronous => "synchronous",
            Self::Quorum => "quorum",
        }
    }

    /// `synchronous_mode`.
    pub(crate) fn setting(self) -> serde_json::Value {
        match self {
            Self::Asynchronous => false.into(),
            Self::Synchronous => true.into(),
            Self::Quorum => "quorum".into(),
        }
    }

    /// The path that a standby answers with 200 which commits may wait for.
    pub(crate) const fn standby(self) -> Option<&'static str> {
        match self {
            Self::Asynchronous => None,
            Self::Synchronous => Some("/sync"),
            Self::Quorum => Some("/quorum"),
        }
    }
}

/// How long, which faults, and in which mode.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// How long new rounds begin; the last one is finished.
    pub(crate) length: Duration,
    /// Decides which faults strike whom, in which order and with which pauses.
    pub(crate) seed: u64,
    /// What commits wait for.
    pub(crate) mode: Mode,
    /// The lease of a silent leader is revoked.
    pub(crate) revoke: bool,
    /// Number of Consul servers.
    pub(crate) servers: usize,
    /// Where logs of rounds that went wrong are kept.
    pub(crate) logs: Option<PathBuf>,
}

/// The arguments, for people.
pub(crate) const USAGE: &str =
    "--minutes M, --seed N, --sync, --quorum, --revoke, --servers 1|3|5 and --logs DIR";

impl Arguments {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Self {
            length: Duration::from_secs(5 * 60),
            seed: fastrand::u64(1..1_000_000),
            mode: Mode::Asynchronous,
            revoke: false,
            servers: 3,
            logs: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--minutes" => parsed.length = minutes(number(&argument, arguments.next())?)?,
                "--seed" => parsed.seed = number(&argument, arguments.next())?,
                "--sync" => parsed.mode = Mode::Synchronous,
                "--revoke" => parsed.revoke = true,
                "--quorum" => parsed.mode = Mode::Quorum,
                "--servers" => parsed.servers = servers(number(&argument, arguments.next())?)?,
                "--logs" => {
                    parsed.logs =
                        Some(arguments.next().context("--logs needs a directory")?.into());
                }
                other => bail!("unknown argument {other:?}; there are {USAGE}"),
            }
        }
        Ok(parsed)
    }

    /// What is run, for people.
    pub(crate) fn title(&self) -> String {
        format!("torture, {}, seed {}", self.mode.word(), self.seed)
    }
}

fn number<T: FromStr>(name: &str, value: Option<String>) -> Result<T> {
    let value = value.with_context(|| format!("{name} needs a number"))?;
    value.parse().map_err(|_| anyhow::anyhow!("{name} {value}: not a number"))
}

fn minutes(number: f64) -> Result<Duration> {
    let length = Duration::try_from_secs_f64(number * 60.0);
    length.with_context(|| format!("--minutes {number}: not a length of time"))
}

fn servers(number: usize) -> Result<usize> {
    ensure!(matches!(number, 1 | 3 | 5), "--servers {number}: Consul takes 1, 3 or 5");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn all_of_it() {
        let all =
            parse("--minutes 0.5 --seed 7 --sync --revoke --servers 1 --logs /x").expect("valid");
        let expected = Arguments {
            length: Duration::from_secs(30),
            seed: 7,
            mode: Mode::Synchronous,
            revoke: true,
            servers: 1,
            logs: Some("/x".into()),
        };
        assert_eq!(all, expected);
        assert_eq!(parse("--quorum").expect("valid").mode, Mode::Quorum);
    }

    #[test]
    fn mistakes_are_named() {
        for line in ["--minutes", "--minutes x", "--minutes -1", "--seed -1", "--servers 2", "x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
