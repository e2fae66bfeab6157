//! What the running server does not take of its configuration files. PostgreSQL says it in its log, once; one line
//! that it cannot read keeps it from taking over any other change, and from starting again.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::postgres::Postgres;

/// One line that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileFault {
    /// The file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// The parameter; none of lines that cannot be read, and in `pg_hba.conf` and `pg_ident.conf`.
    pub name: Option<String>,
    /// The server's words.
    pub words: String,
    /// What follows from it.
    pub effect: Effect,
}

/// What PostgreSQL does about a line that it does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It takes nothing over from any of its files, and would not start.
    Void,
    /// The parameter keeps its value, and the server would not start.
    NoStart,
    /// A library's parameter: it keeps its value, or has its default.
    Ignored,
    /// The whole file (`pg_hba.conf`) is as it was before, and the server would not start.
    OldRules,
    /// The whole file (`pg_ident.conf`) is as it was before; nobody is mapped after the next start.
    OldMaps,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(name) = &self.name {
            write!(f, "{name}: ")?;
        }
        let effect = match self.effect {
            Effect::Void => {
                "PostgreSQL takes over no change of its settings until this is mended, and would not \
                 start with it"
            }
            Effect::NoStart => {
                "the old value stays in force, and PostgreSQL would not start with it"
            }
            Effect::Ignored => "PostgreSQL goes on without it",
            Effect::OldRules => {
                "the rules from before stay in force, and PostgreSQL would not start with it"
            }
            Effect::OldMaps => "the maps from before stay in force until PostgreSQL is restarted",
        };
        write!(f, "{}; {effect}", self.words)
    }
}

/// As it says of each value that it does not take; the reason is in its log alone.
const NOT_APPLIED: &str = "setting could not be applied";

/// The files are read anew for this. A parameter that waits for a restart is among the refused; one that is gone from
/// the files and waits for a restart has a row without file and name.
const PARAMETERS: &str = "SELECT f.sourcefile, f.sourceline, lower(f.name), f.error, f.setting, \
     EXISTS (SELECT FROM pg_settings s WHERE s.pending_restart AND lower(s.name) = lower(f.name)) \
     FROM pg_file_settings f WHERE f.error IS NOT NULL AND (f.sourcefile IS NOT NULL \
     OR NOT EXISTS (SELECT FROM pg_settings s WHERE s.pending_restart)) ORDER BY f.seqno";
/// Some versions have the name of the file.
const RULES: &str = "SELECT coalesce(to_jsonb(r)->>'file_name', current_setting('hba_file')), line_number, \
     error FROM pg_hba_file_rules r WHERE error IS NOT NULL";
/// From PostgreSQL 15 on.
const MAPS: &str = "SELECT coalesce(to_jsonb(r)->>'file_name', current_setting('ident_file')), line_number, \
     error FROM pg_ident_file_mappings r WHERE error IS NOT NULL";
const MAPS_SINCE: u32 = 15;

type Row = Vec<Option<String>>;

impl Postgres {
    /// What the server would not take of its files as they are now, whether or not it was told to read
    /// them. What merely waits for a restart is none of it.
    ///
    /// # Errors
    /// The server does not answer, or a value cannot be tried.
    pub async fn file_faults(&self, within: Duration) -> Result<Vec<FileFault>> {
        let until = Instant::now() + within;
        let rows = self.ask(PARAMETERS, within).await?;
        let mut found: Vec<_> = rows.iter().filter_map(Parameter::read).collect();
        self.explain(&mut found, until).await?;
        let mut faults: Vec<_> = found.into_iter().filter_map(Parameter::fault).collect();
        faults.extend(files(&self.ask(RULES, within).await?, Effect::OldRules));
        if self.major() >= MAPS_SINCE {
            faults.extend(files(&self.ask(MAPS, within).await?, Effect::OldMaps));
        }
        Ok(faults)
    }

    async fn ask(&self, sql: &str, within: Duration) -> Result<Vec<Row>> {
        self.query(sql, within)
            .await
            .map_err(Error::sql("reading what PostgreSQL takes of its files"))
    }

    /// The reasons, from the program itself.
    async fn explain(&self, found: &mut [Parameter], until: Instant) -> Result<()> {
        let refused = found.iter().filter(|it| it.words == NOT_APPLIED);
        let values: BTreeMap<_, _> =
            refused.map(|it| (it.name.clone().unwrap_or_default(), it.value.clone())).collect();
        if values.is_empty() {
            return Ok(());
        }
        let left = until.saturating_duration_since(Instant::now());
        let (reasons, _) = self.refusals(&values, left).await?;
        for one in found.iter_mut() {
            let reason = one.name.as_ref().and_then(|name| reasons.get(name));
            one.reason = reason.cloned().filter(|_| one.words == NOT_APPLIED);
        }
        Ok(())
    }
}

/// A row of `pg_file_settings`.
#[derive(Default)]
struct Parameter {
    file: String,
    line: u32,
    name: Option<String>,
    words: String,
    value: String,
    pending: bool,
    /// What the program says of the value by itself.
    reason: Option<String>,
}

impl Parameter {
    fn read(row: &Row) -> Option<Self> {
        let field = |n: usize| row.get(n).cloned().flatten();
        Some(Self {
            file: field(0).unwrap_or_default(),
            line: field(1).and_then(|line| line.parse().ok()).unwrap_or_default(),
            name: field(2),
            words: field(3)?,
            value: field(4).unwrap_or_default(),
            pending: field(5).as_deref() == Some("t"),
            reason: None,
        })
    }

    /// Nothing where the value is good and a restart is all that it takes.
    fn fault(self) -> Option<FileFault> {
        let Self { file, line, name, words, pending, reason, .. } = self;
        let library = name.as_ref().is_some_and(|name| name.contains('.'));
        let effect = match words == NOT_APPLIED {
            false => Effect::Void,
            true if library => Effect::Ignored,
            true => Effect::NoStart,
        };
        if effect != Effect::Void && pending && reason.is_none() {
            return None;
        }
        Some(FileFault { file, line, name, words: reason.unwrap_or(words), effect })
    }
}

fn files(rows: &[Row], effect: Effect) -> Vec<FileFault> {
    let fault = |row: &Row| {
        let field = |n: usize| row.get(n).cloned().flatten();
        let line = field(1).and_then(|line| line.parse().ok()).unwrap_or_default();
        let words = without_value(&field(2)?);
        Some(FileFault { file: field(0).unwrap_or_default(), line, name: None, words, effect })
    };
    rows.iter().filter_map(fault).collect()
}

/// An option that is not one may be half of a secret (`ldapbindpasswd = …`).
fn without_value(words: &str) -> String {
    const OPTION: &str = "authentication option not in name=value format";
    if words.starts_with(OPTION) { OPTION.to_owned() } else { words.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, error: &str, pending: bool) -> Parameter {
        let row = [Some("/d/c.conf"), Some("7"), Some(name), Some(error), Some("1")];
        let mut row: Row = row.map(|field| field.map(str::to_owned)).to_vec();
        row.push(Some(if pending { "t" } else { "f" }.to_owned()));
        Parameter::read(&row).unwrap()
    }

    #[test]
    fn what_waits_for_a_restart_is_no_fault_unless_its_value_is_bad() {
        assert_eq!(row("shared_buffers", NOT_APPLIED, true).fault(), None);
        let bad = Parameter { reason: Some("bad".into()), ..row("port", NOT_APPLIED, true) };
        let fault = bad.fault().unwrap();
        assert_eq!((fault.words.as_str(), fault.effect), ("bad", Effect::NoStart));
        assert_eq!(fault.to_string().split(';').next(), Some("/d/c.conf:7: port: bad"));
        let library = row("pg_stat_statements.track", NOT_APPLIED, false).fault().unwrap();
        assert_eq!(library.effect, Effect::Ignored);
        let unknown = row("wrok_mem", "unrecognized configuration parameter", false).fault();
        assert_eq!(unknown.unwrap().effect, Effect::Void);
    }

    #[test]
    fn half_of_a_secret_is_not_said() {
        let words = "authentication option not in name=value format: s3cret";
        assert!(!without_value(words).contains("s3cret"));
        assert_eq!(without_value("invalid connection type \"x\""), "invalid connection type \"x\"");
    }
}
