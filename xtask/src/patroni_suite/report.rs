//! The table of what became of the features.

use std::fmt::Write as _;

use super::expected::Expected;
use super::result::{End, Scenario};
use super::run::Outcome;

/// One line for each feature, and under it each scenario that failed or that the page is wrong about.
pub(super) fn table(outcomes: &[Outcome], expected: &Expected) -> String {
    let mut text = format!("{:<22}{:>10}{:>8}{:>8}\n", "feature", "scenarios", "passed", "failed");
    let (mut all, mut good) = (0, 0);
    for outcome in outcomes {
        let passed = count(outcome, |end| *end == End::Passed);
        let failed = count(outcome, |end| matches!(end, End::Failed { .. }));
        (all, good) = (all + outcome.scenarios.len(), good + passed);
        let number = outcome.scenarios.len();
        let _ = writeln!(text, "{:<22}{number:>10}{passed:>8}{failed:>8}", outcome.feature);
        if let Some(problem) = &outcome.problem {
            let _ = writeln!(text, "  {problem}");
        }
        for scenario in &outcome.scenarios {
            text.push_str(&line(&outcome.feature, scenario, expected));
        }
        for gone in unknown(outcome, expected) {
            let _ = writeln!(text, "  listed in docs/patroni.md, but not in this suite: {gone}");
        }
    }
    let _ = writeln!(text, "{:<22}{all:>10}{good:>8}", "all");
    text
}

fn count(outcome: &Outcome, is: impl Fn(&End) -> bool) -> usize {
    outcome.scenarios.iter().filter(|scenario| is(&scenario.end)).count()
}

fn line(feature: &str, scenario: &Scenario, expected: &Expected) -> String {
    let listed = expected.may_fail(feature, &scenario.name);
    let name = &scenario.name;
    match (&scenario.end, listed) {
        (End::Passed, false) => String::new(),
        (End::Passed, true) => format!("  passed, though docs/patroni.md lists it: {name}\n"),
        (End::Skipped, _) => format!("  skipped: {name}\n"),
        (End::Failed { step, message }, listed) => {
            let word = if listed { "failed, as listed" } else { "FAILED" };
            format!("  {word}: {name}\n      {step}\n      {message}\n")
        }
    }
}

fn unknown<'a>(outcome: &'a Outcome, expected: &'a Expected) -> impl Iterator<Item = &'a str> {
    let known = |name: &str| outcome.scenarios.iter().any(|scenario| scenario.name == name);
    let complete = outcome.problem.is_none();
    expected.of(&outcome.feature).filter(move |name| complete && !known(name))
}

/// How many scenarios failed that are not listed; a feature without a result counts as one.
pub(super) fn unexpected(outcomes: &[Outcome], expected: &Expected) -> usize {
    let wrong = |outcome: &Outcome| {
        let failed = outcome.scenarios.iter().filter(|scenario| {
            matches!(scenario.end, End::Failed { .. })
                && !expected.may_fail(&outcome.feature, &scenario.name)
        });
        failed.count() + usize::from(outcome.problem.is_some())
    };
    outcomes.iter().map(wrong).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patroni_suite::expected;

    #[test]
    fn only_what_is_not_listed_is_wrong() {
        let failed = || End::Failed { step: "Then it runs".to_owned(), message: "no".to_owned() };
        let scenario = |name: &str, end| Scenario { name: name.to_owned(), end };
        let outcome = |scenarios, problem: Option<&str>| Outcome {
            feature: "a".to_owned(),
            scenarios,
            problem: problem.map(str::to_owned),
        };
        let expected = expected::of(&[("a", "one"), ("a", "two"), ("a", "gone")]);
        let known = [scenario("one", failed()), scenario("two", End::Passed)];
        let known = outcome(known.into(), None);
        assert_eq!(unexpected(std::slice::from_ref(&known), &expected), 0);
        let text = table(std::slice::from_ref(&known), &expected);
        for words in
            ["failed, as listed: one", "though docs/patroni.md lists it: two", "suite: gone"]
        {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(text.ends_with("2       1\n"), "{text}");
        let new = outcome(vec![scenario("three", failed())], None);
        assert!(table(std::slice::from_ref(&new), &expected).contains("FAILED: three"));
        assert_eq!(unexpected(&[known, new, outcome(Vec::new(), Some("died"))], &expected), 2);
    }
}
