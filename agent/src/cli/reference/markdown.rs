//! The little Markdown (GitHub's) that the pages need.

/// What every page begins with.
pub(super) fn title(title: &str, defined: &str) -> String {
    format!(
        "# {title}\n\n<!-- Made by `cargo xtask docs` from {defined}; changes belong there. -->\n"
    )
}

/// A section's heading and what it is about.
pub(super) fn section(heading: &str, about: &str) -> String {
    let about = if about.is_empty() { String::new() } else { format!("\n{about}\n") };
    format!("\n## {heading}\n{about}")
}

/// Plain text, of which nothing is taken for markup but its `literals`.
pub(super) fn plain(text: &str) -> String {
    let escape = |part: &str| part.replace('*', "\\*").replace('<', "\\<");
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { escape(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}

/// A literal; nothing for an empty one.
pub(super) fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

/// Literals, separated by commas.
pub(super) fn codes<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().map(code).collect::<Vec<_>>().join(", ")
}

/// A table after an empty line.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut text = format!("\n{}{}", line(&head), line(&["---"; N]));
    for row in rows {
        text.push_str(&line(&row.each_ref().map(String::as_str)));
    }
    text
}

fn line(cells: &[&str]) -> String {
    let cells = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_are_markup() {
        assert_eq!(plain("a *b* `*c* <d>` <e>"), r"a \*b\* `*c* <d>` \<e>");
    }

    #[test]
    fn cells_cannot_break_a_table() {
        let row = ["a|b".to_owned(), code("c\nd")];
        assert_eq!(table(["x", "y"], [row]), "\n| x | y |\n| --- | --- |\n| a\\|b | `c d` |\n");
    }
}
