//! `hart history`: the ends of the timelines.

use std::process::ExitCode;

use clap::Args;
use hart_ha::kv::HistoryEntry;
use serde_json::{Map, Value};

use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::formats::{self, Format};
use crate::cli::globals::Globals;
use crate::cli::{out, table};

/// patronictl's names.
const COLUMNS: [&str; 5] = ["TL", "LSN", "Reason", "Timestamp", "New Leader"];

/// Arguments of `hart history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "pretty")]
    format: Format,
}

/// Prints the key `history`.
///
/// # Errors
/// The cluster cannot be read.
pub async fn run(globals: &Globals, args: HistoryArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let history = cluster.snapshot.history.as_ref();
    let entries = history.map_or(&[][..], |history| history.value.as_slice());
    Ok(out::print(&render(entries, args.format)))
}

fn render(entries: &[HistoryEntry], format: Format) -> String {
    let rows: Vec<Vec<Value>> = entries.iter().map(row).collect();
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let texts = || rows.iter().map(|row| row.iter().map(cell).collect()).collect::<Vec<_>>();
    match format {
        Format::Pretty => table::render(&COLUMNS, &texts(), &["TL", "LSN"]),
        Format::Tsv => formats::tsv(&COLUMNS, &texts()),
        Format::Json => Value::from(objects(&rows)).to_string(),
        Format::Yaml => formats::yaml(&objects(&rows)),
    }
}

/// The position as a number of bytes, as patronictl shows it.
fn row(HistoryEntry(timeline, lsn, reason, at, leader): &HistoryEntry) -> Vec<Value> {
    vec![
        (*timeline).into(),
        lsn.0.into(),
        reason.as_str().into(),
        at.as_str().into(),
        leader.as_str().into(),
    ]
}

/// As patronictl has them: empty values are left out.
fn objects(rows: &[Vec<Value>]) -> Vec<Map<String, Value>> {
    let object = |row: &Vec<Value>| {
        let named = COLUMNS.iter().zip(row).filter(|(_, value)| value.as_str() != Some(""));
        named.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    rows.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hart_ha::lsn::Lsn;

    #[test]
    fn lines_that_know_no_leader_are_shown_as_well() {
        let why = "no recovery target specified".to_owned();
        let at = "2026-11-01T12:00:00.000000+00:00".to_owned();
        let entries = [
            HistoryEntry(1, Lsn(50_331_808), why.clone(), String::new(), String::new()),
            HistoryEntry(2, Lsn(67_108_864), why, at, "n2".to_owned()),
        ];
        assert_eq!(
            render(&entries, Format::Tsv),
            "TL\tLSN\tReason\tTimestamp\tNew Leader\n\
             1\t50331808\tno recovery target specified\t\t\n\
             2\t67108864\tno recovery target specified\t2026-11-01T12:00:00.000000+00:00\tn2"
        );
        let json: Value = serde_json::from_str(&render(&entries, Format::Json)).unwrap();
        assert_eq!(json[0].as_object().unwrap().len(), 3);
        assert_eq!(json[1]["New Leader"], "n2");
        assert!(render(&entries, Format::Pretty).contains("|  1 | 50331808 |"));
        assert_eq!(render(&[], Format::Json), "[]");
    }
}
