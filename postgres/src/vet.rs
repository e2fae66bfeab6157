//! Which parameters this version of PostgreSQL would not start with. The program itself is asked, with a
//! configuration file that holds nothing else; it works without a data directory, and starts no server.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use crate::binaries;
use crate::command::{Limits, Tool};
use crate::error::{Error, Result};
use crate::files;
use crate::parameters::belongs_in_conf;
use crate::postgres::Postgres;
use crate::quote::conf_value;
use crate::settings::Settings;

/// It decides in which language the program complains, so it is tried on its own.
const LANGUAGE: &str = "lc_messages";
/// It has a file of its own, and is tried all the same.
const NAMES: &str = "synchronous_standby_names";
const COMMAND: &str = "archive_command";
const LIBRARY: &str = "archive_library";
/// PostgreSQL complains about at most so many at a time.
const ROUNDS: usize = 50;

impl Postgres {
    /// Those of `parameters` that this version does not know, or whose values it refuses, with its own
    /// words. One line in `postgresql.conf` that it cannot read keeps the whole server from starting. Also
    /// what it takes without a word, and what would end the archiving of WAL.
    ///
    /// # Errors
    /// The program cannot be run, or not within the time, or fails for another reason.
    pub async fn vet(
        &self,
        parameters: &BTreeMap<String, String>,
        within: Duration,
    ) -> Result<BTreeMap<String, String>> {
        let refusal =
            |(name, words)| (name, format!("PostgreSQL would not start with it: {words}"));
        let (refused, left) = self.refusals(parameters, within).await?;
        let mut refused: BTreeMap<_, _> = refused.into_iter().map(refusal).collect();
        refused.extend(second_archive(&left));
        Ok(refused)
    }

    /// The refused ones with PostgreSQL's words alone, and the others.
    pub(crate) async fn refusals<'p>(
        &self,
        parameters: &'p BTreeMap<String, String>,
        within: Duration,
    ) -> Result<(BTreeMap<String, String>, BTreeMap<&'p String, &'p String>)> {
        let settings = self.settings();
        let until = Instant::now() + within;
        let known = |name: &&String| belongs_in_conf(name) || *name == NAMES;
        let conf = |name: &&String| known(name) && *name != LANGUAGE;
        let mut left: BTreeMap<&String, &String> =
            parameters.iter().filter(|(name, _)| conf(name)).collect();
        let mut refused = BTreeMap::new();
        let scratch = Scratch::new(&settings)?;
        for _ in 0..ROUNDS {
            let found = match scratch.try_with(&settings, &left, until).await? {
                Verdict::Good => break,
                Verdict::Named(found) => found,
                Verdict::Nameless(words) => {
                    let found = scratch.who(&settings, &left, until).await?;
                    found.ok_or_else(|| Error::parse("the complaint of postgres -C", &words))?
                }
            };
            left.retain(|name, _| !found.contains_key(*name));
            refused.extend(found);
        }
        if let Some(language) = parameters.get_key_value(LANGUAGE) {
            let alone = BTreeMap::from([language]);
            match scratch.try_with(&settings, &alone, until).await {
                Ok(Verdict::Named(found)) => refused.extend(found),
                Ok(Verdict::Good | Verdict::Nameless(_)) | Err(_) => {}
            }
        }
        Ok((refused, left))
    }
}

/// PostgreSQL 15 archives by the library alone then, and from 16 on by neither, and says it nowhere but in its log;
/// the command is what has worked.
fn second_archive(left: &BTreeMap<&String, &String>) -> Option<(String, String)> {
    let given = |wanted: &str| {
        let found = left.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.is_some_and(|(_, value)| !value.trim().is_empty())
    };
    (given(COMMAND) && given(LIBRARY)).then(|| {
        let why = "archive_command is set, too, and PostgreSQL from 16 on archives no WAL with both: empty one of them";
        (LIBRARY.to_owned(), why.to_owned())
    })
}

/// What the program says of some parameters.
enum Verdict {
    Good,
    /// Its words, by lower-case name.
    Named(BTreeMap<String, String>),
    /// Not which it does not like, as `standard_conforming_strings = off` in PostgreSQL 19.
    Nameless(String),
}

/// A directory for the file, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    /// Values may be secret: nobody else may read the directory.
    fn new(settings: &Settings) -> Result<Self> {
        let uuid = Path::new("/proc/sys/kernel/random/uuid");
        let uuid = fs::read_to_string(uuid).map_err(Error::io("read", uuid))?;
        let state = settings.state_dir();
        let above = if state.is_dir() { state } else { std::env::temp_dir() };
        let dir = above.join(format!("vet-{}", uuid.trim()));
        fs::DirBuilder::new().mode(0o700).create(&dir).map_err(Error::io("create", &dir))?;
        let scratch = Self(dir);
        files::give_dir(&scratch.0, settings.run_as)?;
        Ok(scratch)
    }

    /// The parameter that the program refuses without naming it: halves are tried until one is alone. `None` where it is
    /// none by itself.
    async fn who(
        &self,
        settings: &Settings,
        parameters: &BTreeMap<&String, &String>,
        until: Instant,
    ) -> Result<Option<BTreeMap<String, String>>> {
        let mut suspects = parameters.clone();
        loop {
            let names: Vec<&String> = suspects.keys().copied().collect();
            let half = names.len().div_ceil(2);
            let (first, rest) = names.split_at(half);
            let of = |names: &[&String]| {
                suspects
                    .iter()
                    .filter(|(name, _)| names.contains(name))
                    .map(|(n, v)| (*n, *v))
                    .collect()
            };
            let tried: BTreeMap<&String, &String> = of(first);
            let verdict = self.try_with(settings, &tried, until).await?;
            match verdict {
                Verdict::Nameless(words) if half <= 1 => {
                    let name = first.first().map(|name| name.to_ascii_lowercase());
                    return Ok(name.map(|name| [(name, words)].into()));
                }
                Verdict::Nameless(_) => suspects = tried,
                Verdict::Good | Verdict::Named(_) if rest.is_empty() => return Ok(None),
                Verdict::Good | Verdict::Named(_) => suspects = of(rest),
            }
        }
    }

    /// What PostgreSQL complains about.
    async fn try_with(
        &self,
        settings: &Settings,
        parameters: &BTreeMap<&String, &String>,
        until: Instant,
    ) -> Result<Verdict> {
        let path = self.0.join("postgresql.conf");
        let lines =
            parameters.iter().map(|(name, value)| format!("{name} = {}\n", conf_value(value)));
        let _ = files::remove_if_there(&path)?;
        files::write_new(&path, lines.collect::<String>().as_bytes(), 0o600, settings.run_as)?;
        let program = binaries::program(settings, "postgres")?;
        // -C has to come first where this is run by root; it only shows a parameter.
        let tool = Tool::new("postgres -C", program, settings)
            .in_english()
            .arg("-C")
            .arg("port")
            .arg("-D")
            .arg(&self.0)
            .arg("-c")
            .arg(format!("config_file={}", path.display()));
        let left = until.saturating_duration_since(Instant::now());
        let (mut found, mut nameless) = (BTreeMap::new(), None);
        let mut hint = |line: &str| {
            let complaint = complaint(line).filter(|(name, _)| parameters.contains_key(name));
            if complaint.is_none() {
                nameless = logged(line).map(str::to_owned).or(nameless.take());
            }
            found.extend(complaint);
        };
        let output = tool.run(Limits::total(left), &mut hint).await?;
        if output.status.success() {
            // What it says all the same is no reason not to start.
            return Ok(Verdict::Good);
        }
        match nameless {
            _ if !found.is_empty() => Ok(Verdict::Named(found)),
            Some(words) if output.tail.contains("contains errors") => Ok(Verdict::Nameless(words)),
            _ => output.or_fail("postgres -C").map(|_| Verdict::Good),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a line of PostgreSQL's log says, other than that a file is not there.
fn logged(line: &str) -> Option<&str> {
    let (_, words) = line.split_once("LOG:  ")?;
    (!words.starts_with("skipping missing")).then_some(words)
}

/// The parameter that a line of PostgreSQL's log complains about, and its words.
fn complaint(line: &str) -> Option<(String, String)> {
    let (_, words) = line.split_once("LOG:  ").or_else(|| line.split_once("FATAL:  "))?;
    let name = match words.split_once("parameter \"") {
        Some((_, rest)) => rest.split('"').next()?,
        // 99 is outside the valid range for parameter "x" has it, too; a few put the name first.
        None => words.strip_prefix('"')?.split('"').next()?,
    };
    let words = words.split(" in file \"").next().unwrap_or(words);
    Some((name.to_ascii_lowercase(), words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_ways_to_archive_one_is_left_out() {
        let out = |command: &str, library: &str| {
            let (names, values) =
                ([COMMAND, LIBRARY].map(str::to_owned), [command, library].map(str::to_owned));
            let found = second_archive(&names.iter().zip(&values).collect());
            found.map(|(name, _)| name)
        };
        assert_eq!(out("cp %p /a/%f", "basic_archive").as_deref(), Some(LIBRARY));
        assert_eq!(out("", "basic_archive"), None);
        assert_eq!(out("cp %p /a/%f", ""), None);
    }

    #[test]
    fn complaints_name_the_parameter() {
        let name = |line: &str| complaint(line).map(|(name, _)| name);
        let unknown = "2026-11-29 14:34:45.026 GMT [1] LOG:  unrecognized configuration parameter \
                       \"wrok_mem\" in file \"/x/c.conf\" line 2";
        assert_eq!(
            complaint(unknown),
            Some(("wrok_mem".into(), "unrecognized configuration parameter \"wrok_mem\"".into()))
        );
        assert_eq!(
            name("LOG:  invalid value for parameter \"TimeZone\": \"Mars\""),
            Some("timezone".into())
        );
        let range =
            "LOG:  1 kB is outside the valid range for parameter \"work_mem\" (64 .. 2147483647)";
        assert_eq!(name(range), Some("work_mem".into()));
        assert_eq!(name("LOG:  skipping missing configuration file \"/x\""), None);
        assert_eq!(name("HINT:  Available values: a, b."), None);
    }
}
