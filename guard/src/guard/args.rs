//! The arguments of `hart guard`.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use hart_ha::time::Time;

use crate::types::{Armed, from_ns};
use crate::watchdog::WatchdogSpec;

const DEFAULT_GRACE: Duration = Duration::from_millis(100);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub detach: bool,
    pub socket: PathBuf,
    pub lock: PathBuf,
    pub exit_file: PathBuf,
    pub log: PathBuf,
    pub cgroup: Option<PathBuf>,
    /// Made when PostgreSQL has ended.
    pub standby_signal: Option<PathBuf>,
    pub arm: Option<Armed>,
    /// Nothing is started later than that: nobody waits for it any more.
    pub start_by: Option<Time>,
    pub grace: Duration,
    pub watchdog: Option<WatchdogSpec>,
    pub postgres: Vec<CString>,
}

#[derive(Default)]
struct Raw {
    detach: bool,
    socket: Option<PathBuf>,
    lock: Option<PathBuf>,
    exit_file: Option<PathBuf>,
    log: Option<PathBuf>,
    cgroup: Option<PathBuf>,
    standby_signal: Option<PathBuf>,
    term: Option<u64>,
    deadline_ns: Option<u64>,
    start_by_ns: Option<u64>,
    grace_ms: Option<u64>,
    watchdog: Option<PathBuf>,
    watchdog_testing: bool,
    watchdog_required: bool,
    watchdog_safety_ms: Option<u64>,
}

/// Reads the arguments; the error says which one is wrong and what was expected.
pub(super) fn parse(args: Vec<OsString>) -> Result<Options, String> {
    let mut raw = Raw::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let name = arg.to_string_lossy().into_owned();
        match name.as_str() {
            "--" => return finish(raw, args),
            "--detach" => raw.detach = true,
            "--watchdog-testing" => raw.watchdog_testing = true,
            "--watchdog-required" => raw.watchdog_required = true,
            _ => {
                let mut value =
                    || args.next().ok_or_else(|| format!("{name} needs a value after it"));
                raw.set(&name, &mut value)?;
            }
        }
    }
    Err("no program: give `-- PROGRAM [ARGUMENT...]` at the end".into())
}

impl Raw {
    fn set(
        &mut self,
        name: &str,
        value: &mut dyn FnMut() -> Result<OsString, String>,
    ) -> Result<(), String> {
        match name {
            "--socket" => self.socket = Some(absolute(name, value()?)?),
            "--lock" => self.lock = Some(absolute(name, value()?)?),
            "--exit-file" => self.exit_file = Some(absolute(name, value()?)?),
            "--log" => self.log = Some(absolute(name, value()?)?),
            "--cgroup" => self.cgroup = Some(absolute(name, value()?)?),
            "--standby-signal" => self.standby_signal = Some(absolute(name, value()?)?),
            "--term" => self.term = Some(number(name, &value()?)?),
            "--deadline-ns" => self.deadline_ns = Some(number(name, &value()?)?),
            "--start-by-ns" => self.start_by_ns = Some(number(name, &value()?)?),
            "--fence-grace-ms" => self.grace_ms = Some(number(name, &value()?)?),
            "--watchdog" => self.watchdog = Some(absolute(name, value()?)?),
            "--watchdog-safety-ms" => self.watchdog_safety_ms = Some(number(name, &value()?)?),
            _ => return Err(format!("unknown argument {name}")),
        }
        Ok(())
    }
}

fn finish(raw: Raw, program: impl Iterator<Item = OsString>) -> Result<Options, String> {
    let postgres = program
        .map(|arg| CString::new(arg.into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "an argument of the program has a NUL byte in it".to_owned())?;
    if postgres.is_empty() {
        return Err("no program after `--`".into());
    }
    let arm = match (raw.term, raw.deadline_ns) {
        (None, None) => None,
        (Some(term), Some(ns)) => Some(Armed { term, deadline: from_ns(ns) }),
        _ => return Err("--term and --deadline-ns go together".into()),
    };
    let watchdog = raw.watchdog.map(|device| WatchdogSpec {
        device,
        testing: raw.watchdog_testing,
        required: raw.watchdog_required,
        safety_margin: raw.watchdog_safety_ms.map(Duration::from_millis),
    });
    let need = |path: Option<PathBuf>, name| path.ok_or_else(|| format!("{name} is missing"));
    Ok(Options {
        detach: raw.detach,
        socket: need(raw.socket, "--socket PATH")?,
        lock: need(raw.lock, "--lock PATH")?,
        exit_file: need(raw.exit_file, "--exit-file PATH")?,
        log: need(raw.log, "--log PATH")?,
        cgroup: raw.cgroup,
        standby_signal: raw.standby_signal,
        arm,
        start_by: raw.start_by_ns.map(from_ns),
        grace: raw.grace_ms.map_or(DEFAULT_GRACE, Duration::from_millis),
        watchdog,
        postgres,
    })
}

fn absolute(name: &str, value: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(value);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("{name} {}: an absolute path is needed", path.display()))
}

fn number(name: &str, value: &OsString) -> Result<u64, String> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| format!("{name} {text}: a whole number is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Options, String> {
        parse(text.split_whitespace().map(OsString::from).collect())
    }

    const PATHS: &str = "--socket /s --lock /l --exit-file /e --log /g";

    #[test]
    fn reads_all() {
        let options = words(&format!(
            "--detach {PATHS} --cgroup /c --term 4 --deadline-ns 5000000000 --fence-grace-ms 7 -- p -D x"
        ))
        .unwrap();
        assert!(options.detach);
        assert_eq!(options.arm, Some(Armed { term: 4, deadline: from_ns(5_000_000_000) }));
        assert_eq!(options.grace, Duration::from_millis(7));
        assert_eq!(options.cgroup, Some(PathBuf::from("/c")));
        assert_eq!(options.standby_signal, None);
        let rests = words(&format!("{PATHS} --standby-signal /d/standby.signal -- p")).unwrap();
        assert_eq!(rests.standby_signal, Some(PathBuf::from("/d/standby.signal")));
        assert_eq!(options.postgres.len(), 3);
        assert_eq!(options.watchdog, None);
        assert_eq!(words(&format!("{PATHS} -- p")).unwrap().grace, DEFAULT_GRACE);
        let dog = format!(
            "{PATHS} --watchdog /d --watchdog-required --watchdog-testing --watchdog-safety-ms 9 -- p"
        );
        let expected = WatchdogSpec {
            device: "/d".into(),
            testing: true,
            required: true,
            safety_margin: Some(Duration::from_millis(9)),
        };
        assert_eq!(words(&dog).unwrap().watchdog, Some(expected));
    }

    #[test]
    fn says_what_is_wrong() {
        for (given, expected) in [
            ("", "no program"),
            ("--socket", "--socket needs a value"),
            ("--socket here -- p", "absolute path"),
            ("--what 1 -- p", "unknown argument --what"),
            (&format!("{PATHS} --term 1 -- p"), "go together"),
            (&format!("{PATHS} --term x -- p"), "whole number"),
            (&format!("{PATHS} --"), "no program after"),
            ("--socket /s -- p", "--lock PATH is missing"),
        ] {
            let error = words(given).unwrap_err();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }
}
