//! The page of the configuration.

use hart_config::{KeyDoc, Kind, Support, reference};

use super::markdown::{code, codes, plain, section, table, title};

pub(super) fn page() -> String {
    let mut page = title("Configuration", "the tables of keys in `config/src`");
    page.push_str(
        "\nA YAML file in Patroni's form, or a directory of `*.yml`, merged in sorted order. \
         Environment variables win over the file: `HART_…` over `PATRONI_…`, of which the tables \
         name the first; either alone can stand for the whole file as `HART_CONFIGURATION` or \
         `PATRONI_CONFIGURATION`. An empty variable counts as not set.\n",
    );
    page.push_str(&values());
    page.push_str(&group("Top level", "", ""));
    for key in reference().iter().filter(|key| key.kind == Kind::Section) {
        page.push_str(&group(&code(key.path), &plain(key.doc), key.path));
    }
    page.push_str(&ignored());
    page
}

/// What the words in the column "Value" mean, as far as they are used.
fn values() -> String {
    let mut seen: Vec<(String, String)> = Vec::new();
    for key in reference().iter().filter(|key| key.support != Support::No) {
        let (kind, hint) = (key.kind.to_string(), key.kind.hint());
        let listed = matches!(key.kind, Kind::Section | Kind::Words(_));
        if !listed && !seen.iter().any(|(known, _)| *known == kind) {
            seen.push((kind, hint));
        }
    }
    let rows = seen.into_iter().map(|(kind, hint)| [kind, plain(&hint)]);
    format!("{}{}", section("Values", ""), table(["Value", "How to write it"], rows))
}

/// The keys right below `parent`.
fn group(heading: &str, about: &str, parent: &str) -> String {
    let shown = |key: &&KeyDoc| {
        key.parent() == parent && key.kind != Kind::Section && key.support != Support::No
    };
    let rows: Vec<_> = reference().iter().filter(shown).map(row).collect();
    let head = ["Key", "Value", "Default", "Environment", "Since", "Meaning"];
    // Some sections hold nothing but sections.
    let keys = if rows.is_empty() { String::new() } else { table(head, rows) };
    format!("{}{keys}", section(heading, about))
}

fn row(key: &KeyDoc) -> [String; 6] {
    let value = match key.kind {
        Kind::Words(words) => codes(words.iter().copied()),
        Kind::Secret => format!("{}, never shown", key.kind),
        kind => kind.to_string(),
    };
    let default = if key.required { "required".to_owned() } else { code(key.default) };
    let later = match key.support {
        Support::Later => " **No effect yet**, and a warning says so.",
        Support::Yes | Support::No => "",
    };
    let meaning = format!("{}{later}", plain(key.doc));
    [code(key.path), value, default, variable("HART_", key), key.since.to_owned(), meaning]
}

fn variable(prefix: &str, key: &KeyDoc) -> String {
    key.env.map(|name| code(&format!("{prefix}{name}"))).unwrap_or_default()
}

fn ignored() -> String {
    let about =
        "Known, so that a file of Patroni's is taken as it is; each is ignored with a warning.";
    let keys = reference().iter().filter(|key| key.support == Support::No);
    let why = |key: &KeyDoc| plain(key.reason().unwrap_or_default());
    let rows = keys.map(|key| [code(key.path), variable("PATRONI_", key), why(key)]);
    let heading = "Patroni's keys that have no effect";
    format!("{}{}", section(heading, about), table(["Key", "Environment", "Instead"], rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_variable_is_on_the_page() {
        let page = page();
        for key in reference() {
            let name = code(key.path);
            let marks = [format!("\n| {name} |"), format!("\n## {name}\n")];
            let found: usize = marks.iter().map(|mark| page.matches(mark.as_str()).count()).sum();
            assert_eq!(found, 1, "{name}");
            let prefix = if key.support == Support::No { "PATRONI_" } else { "HART_" };
            assert!(page.contains(&variable(prefix, key)), "{name}");
        }
    }
}
