//! Tables as patronictl prints them.

use comfy_table::{
    Cell, CellAlignment, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle,
};

/// patronictl's borders.
const STYLE: TableStyle = TableStyle::new()
    .top_border(LineStyle::new('+', '-', '+', '+'))
    .header_lines(ContentLineStyle::new('|', '|', '|'))
    .header_separator(LineStyle::new('+', '-', '+', '+'))
    .content_lines(ContentLineStyle::new('|', '|', '|'))
    .bottom_border(LineStyle::new('+', '-', '+', '+'));

/// Renders columns and rows; the columns named in `right` are aligned to the right.
#[must_use]
pub fn render(columns: &[&str], rows: &[Vec<String>], right: &[&str]) -> String {
    made(columns, rows, right).to_string()
}

/// The same, no wider than this as far as that can be: long texts are broken at spaces.
#[must_use]
pub fn within(width: usize, columns: &[&str], rows: &[Vec<String>], right: &[&str]) -> String {
    let mut table = made(columns, rows, right);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.to_string()
}

fn made(columns: &[&str], rows: &[Vec<String>], right: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(Cell::new).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(Cell::new).collect::<Vec<_>>());
    }
    for (column, name) in table.column_iter_mut().zip(columns) {
        if right.contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Puts a title into the upper border.
#[must_use]
pub fn titled(table: &str, title: &str) -> String {
    let Some((top, rest)) = table.split_once('\n') else { return table.to_owned() };
    let title = format!("+ {title} ");
    let border: String = top.chars().skip(title.chars().count()).collect();
    // A title that covers the corner still gets one.
    let border = if border.is_empty() { "+" } else { &border };
    format!("{title}{border}\n{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_like_patronictls() {
        let rows = [vec!["n1".to_owned(), "7".to_owned()]];
        let table = titled(&render(&["Member of it", "TL"], &rows, &["TL"]), "Cluster: ha");
        let expected = "+ Cluster: ha -+----+\n\
                        | Member of it | TL |\n\
                        +--------------+----+\n\
                        | n1           |  7 |\n\
                        +--------------+----+";
        assert_eq!(table, expected);
    }

    #[test]
    fn long_texts_are_broken() {
        let rows = [vec!["n1".to_owned(), "lost since 2026-12-01 02:44:38 UTC".to_owned()]];
        let table = within(40, &["Member", "State"], &rows, &[]);
        let expected = "\
+--------+-----------------------+
| Member | State                 |
+--------+-----------------------+
| n1     | lost since 2026-12-01 |
|        | 02:44:38 UTC          |
+--------+-----------------------+";
        assert!(table.lines().all(|line| line.chars().count() <= 40), "{table}");
        assert_eq!(within(34, &["Member", "State"], &rows, &[]), expected);
    }

    #[test]
    fn a_long_title_is_kept() {
        let table = titled(&render(&["A"], &[vec!["b".into()]], &[]), "Cluster: a-long-name");
        assert!(table.starts_with("+ Cluster: a-long-name +\n| A |\n"), "{table}");
    }
}
