//! Which scenarios may fail: the table in `docs/patroni.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const HEADING: &str = "## Patroni's behaviour suite";

/// Feature and scenario of each that is listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected(BTreeSet<(String, String)>);

impl Expected {
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", file.display()))
    }

    /// Rows `| feature | scenario | reason |` below the heading; a feature is in backticks.
    fn parse(text: &str) -> Result<Self> {
        let section = text.split_once(HEADING).map(|(_, after)| after);
        let section = section.with_context(|| format!("no heading {HEADING:?}"))?;
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut listed = BTreeSet::new();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [feature, scenario, reason] = cells[..] else { continue };
            ensure!(!reason.is_empty(), "{scenario:?} is listed without a reason");
            let known = (feature.trim_matches('`').to_owned(), scenario.to_owned());
            ensure!(listed.insert(known), "{feature} {scenario:?} is listed twice");
        }
        Ok(Self(listed))
    }

    pub(super) fn may_fail(&self, feature: &str, scenario: &str) -> bool {
        self.0.contains(&(feature.to_owned(), scenario.to_owned()))
    }

    /// The scenarios that are listed for a feature.
    pub(super) fn of<'a>(&'a self, feature: &'a str) -> impl Iterator<Item = &'a str> {
        let listed = self.0.iter().filter(move |(of, _)| of == feature);
        listed.map(|(_, scenario)| scenario.as_str())
    }
}

/// A list for tests.
#[cfg(test)]
pub(super) fn of(listed: &[(&str, &str)]) -> Expected {
    Expected(listed.iter().map(|(of, name)| ((*of).to_owned(), (*name).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_below_the_heading_counts() {
        let text = format!(
            "| `x` | before | it |\n{HEADING}\n| Feature | Scenario | Why |\n|---|---|---|\n\
             | `a` | one | words |\n| `b` | two | more |\n## Next\n| `c` | three | no |\n"
        );
        let expected = Expected::parse(&text).unwrap();
        assert!(expected.may_fail("a", "one") && expected.may_fail("b", "two"));
        assert!(!expected.may_fail("a", "two") && !expected.may_fail("x", "before"));
        assert_eq!(expected.of("c").count() + expected.of("Feature").count(), 0);
        let again = text.replace("| `b` | two |", "| `a` | one |");
        assert!(Expected::parse(&again).is_err());
        assert!(Expected::parse(&text.replace("words", "")).is_err());
        assert!(Expected::parse("no heading").is_err());
    }

    #[test]
    fn the_page_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Expected::read(&root.join("docs/patroni.md")).unwrap();
    }
}
