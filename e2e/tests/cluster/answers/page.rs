//! `docs/answers.md`: the table between two marks, made from the cases.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::told::Told;
use super::{Case, Who};

const BEGIN: &str = "<!-- made by answers::each_answer_is_what_was_done -->\n";
const END: &str = "<!-- end -->\n";

/// The page has these rows; what was measured may differ. `HART_WRITE_DOCS=1` writes them.
///
/// # Errors
/// The page is not there, or says otherwise.
pub(super) fn compare(rows: &[(Case, Told)]) -> Result<()> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/answers.md"));
    let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = page.split_once(BEGIN).context("the page has no beginning of a table")?;
    let (table, after) = rest.split_once(END).context("the page has no end of a table")?;
    let made = render(rows);
    if std::env::var_os("HART_WRITE_DOCS").is_some() {
        return Ok(std::fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}"))?);
    }
    ensure!(
        without_seconds(table) == without_seconds(&made),
        "docs/answers.md says otherwise (HART_WRITE_DOCS=1 writes it):\n{made}"
    );
    Ok(())
}

const HEAD: &str = "\n| What was done | `hart events`: cause | `hart events`: in this order | `hart list` meanwhile | \
                    `hart why` meanwhile | `hart check` meanwhile | no writes: events / writers |\n\
                    |---|---|---|---|---|---|---|\n";

fn render(rows: &[(Case, Told)]) -> String {
    let rows: String = rows.iter().map(|(case, told)| row(case, told)).collect();
    format!("{HEAD}{rows}\n")
}

fn row(case: &Case, told: &Told) -> String {
    let order: Vec<String> = case
        .order
        .iter()
        .map(|(kind, who, text)| match *text {
            "" => format!("{}: {kind}", word(*who)),
            text => format!("{}: {}", word(*who), places(text)),
        })
        .collect();
    let (who, role, state) = case.list;
    let cause = case.cause.map_or_else(|| "nobody else leads".to_owned(), places);
    let leads = if case.cause.is_some() { Who::Next } else { Who::Leader };
    let check = case.check.map_or_else(|| format!("{} lets it in", word(leads)), places);
    let events = told.no_writes.map_or_else(
        || "–".to_owned(),
        |(ms, exact)| format!("{}{}", if exact { "" } else { "≤ " }, seconds(ms)),
    );
    let writers = seconds(i64::try_from(told.writers.as_millis()).unwrap_or(i64::MAX));
    let cells = [
        case.done.to_owned(),
        cause,
        order.join("; "),
        format!("{}: {role}, {state}", word(who)),
        places(case.why),
        check,
        format!("{events} / {writers}"),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn word(who: Who) -> &'static str {
    match who {
        Who::Leader => "*leader*",
        Who::Next => "*next*",
        Who::Replica => "*replica*",
    }
}

fn places(text: &str) -> String {
    let text = text.replace("LEADER", word(Who::Leader)).replace("NEXT", word(Who::Next));
    text.replace("REPLICA", word(Who::Replica))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(ms: i64) -> String {
    format!("{:.2} s", ms as f64 / 1000.0)
}

/// The last column is what this run measured.
fn without_seconds(table: &str) -> String {
    let cut = |line: &str| line.rsplitn(3, '|').last().unwrap_or_default().to_owned() + "\n";
    table.lines().map(cut).collect()
}
