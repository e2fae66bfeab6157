//! The table at the end, in Markdown.

use crate::summary::Summary;

const HEAD: [&str; 10] = [
    "scenario",
    "Patroni 30/10/10",
    "Patroni 20/1/3",
    "goal",
    "min",
    "median",
    "max",
    "lost rows",
    "overlap",
    "goal reached",
];

/// The table of one build.
pub(crate) fn render(summaries: &[Summary]) -> String {
    align(HEAD, summaries.iter().map(row))
}

/// A rule under the head, and every column as wide as its widest cell.
pub(crate) fn align<const N: usize>(
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    rows.insert(1, widths.map(|width| "-".repeat(width)));
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn line<const N: usize>(row: &[String; N], widths: &[usize; N]) -> String {
    let cells: Vec<String> =
        row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn row(summary: &Summary) -> [String; HEAD.len()] {
    let yardstick = &summary.yardstick;
    let unit = yardstick.unit;
    let value = |value: f64| format!("{value:.2} {unit}");
    [
        yardstick.title.to_owned(),
        yardstick.usual.to_owned(),
        yardstick.least.to_owned(),
        yardstick.goal.show(unit),
        value(summary.min()),
        value(summary.median()),
        value(summary.max()),
        summary.account.map_or_else(dash, |account| match account.unexpected {
            0 => account.lost.to_string(),
            unexpected => format!("{} ({unexpected} unexpected)", account.lost),
        }),
        summary
            .account
            .map_or_else(dash, |account| format!("{:.2} s", account.overlap.as_secs_f64())),
        match yardstick.goal.is_any() {
            true if summary.reached() => "yes".to_owned(),
            true => "no".to_owned(),
            false => dash(),
        },
    ]
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{MEMORY, Scenario};
    use crate::summary::Account;

    #[test]
    fn columns_line_up() {
        let account = Some(Account { lost: 3, unexpected: 1, ..Account::default() });
        let table = render(&[
            Summary::new(Scenario::Crash.yardstick(), vec![0.4, 0.6, 1.25], account),
            Summary::new(MEMORY, vec![8.0], None),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
        assert!(lines[2].contains("| 3 (1 unexpected) | 0.00 s  | no "), "{table}");
        assert!(lines[2].contains("| 0.40 s  | 0.60 s  | 1.25 s  |"), "{table}");
        assert!(lines[3].contains("| 8.00 MB |") && lines[3].contains("| yes "), "{table}");
    }
}
