//! What became of the scenarios of one feature, as behave's JSON formatter writes it.

use anyhow::{Context, Result};
use serde_json::Value;

/// One scenario.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    /// By a tag, or because something that it needs is not there.
    Skipped,
    /// The first step that failed, and its message.
    Failed {
        step: String,
        message: String,
    },
}

/// Reads the scenarios of the one feature in the text. `log` is what behave showed meanwhile: the
/// traceback of a step that broke is there alone.
pub(super) fn read(text: &str, log: &str) -> Result<Vec<Scenario>> {
    let features: Value = serde_json::from_str(text).context("what behave wrote is no JSON")?;
    let elements = features.pointer("/0/elements").and_then(Value::as_array);
    let elements = elements.context("behave wrote of no feature")?;
    let scenarios = elements.iter().filter(|element| element["type"] == "scenario");
    Ok(scenarios.map(|element| scenario(element, log)).collect())
}

fn scenario(element: &Value, log: &str) -> Scenario {
    let name = element["name"].as_str().unwrap_or_default().to_owned();
    let end = match element["status"].as_str() {
        Some("passed") => End::Passed,
        Some("skipped") => End::Skipped,
        other => first_failure(element, other.unwrap_or("unknown"), log),
    };
    Scenario { name, end }
}

fn first_failure(element: &Value, status: &str, log: &str) -> End {
    let steps = element["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let failed = steps.iter().find(|step| step["result"]["status"] != "passed");
    let Some(failed) = failed else {
        return End::Failed { step: "none".to_owned(), message: format!("the scenario {status}") };
    };
    let word = |key: &str| failed[key].as_str().unwrap_or_default();
    let step = format!("{} {}", word("keyword"), word("name"));
    let message = message(&failed["result"]["error_message"]).or_else(|| {
        let scenario = element["name"].as_str().unwrap_or_default();
        let (_, after) = log.split_once(&format!("Scenario: {scenario}\n"))?;
        let (_, after) = after.split_once(&format!("{step} ... error"))?;
        let traceback = after.split_once('\n')?.1.split("\n\n").next()?;
        message(&Value::from(traceback))
    });
    let message = message.unwrap_or_else(|| "it broke".to_owned());
    End::Failed { step, message }
}

/// Lines or one text. Of a traceback the last line tells what happened.
fn message(error: &Value) -> Option<String> {
    let lines: Vec<&str> = match error {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        Value::String(text) => text.lines().collect(),
        _ => Vec::new(),
    };
    let mut lines = lines.into_iter().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next()?;
    let telling =
        if first.starts_with("ASSERT") { first } else { lines.next_back().unwrap_or(first) };
    Some(telling.trim_start_matches("ASSERT FAILED: ").chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_read_with_the_first_step_that_failed() {
        let text = r#"[{"name":"recovery","elements":[
            {"type":"background","name":"b","status":"passed"},
            {"type":"scenario","name":"one","status":"passed","steps":[]},
            {"type":"scenario","name":"two","status":"failed","steps":[
              {"keyword":"Given","name":"I start","result":{"status":"passed"}},
              {"keyword":"Then","name":"it runs","result":{"status":"failed",
               "error_message":["ASSERT FAILED: it does not","Captured logging:","noise"]}},
              {"keyword":"And","name":"more"}]},
            {"type":"scenario","name":"three","status":"error","steps":[
              {"keyword":"When","name":"x","result":{"status":"error"}}]},
            {"type":"scenario","name":"four","status":"skipped","steps":[]},
            {"type":"scenario","name":"five","status":"untested","steps":[]}]}]"#;
        let log = "  Scenario: three\n    When x ... error in 0.001s\nTraceback (most recent call \
                   last):\n  File \"a\"\nKeyError: 'n'\n\n\n  Scenario: four\n";
        let read = read(text, log).unwrap();
        let failed = |step: &str, message: &str| End::Failed {
            step: step.to_owned(),
            message: message.to_owned(),
        };
        let ends: Vec<_> = read.into_iter().map(|scenario| scenario.end).collect();
        assert_eq!(
            ends,
            [
                End::Passed,
                failed("Then it runs", "it does not"),
                failed("When x", "KeyError: 'n'"),
                End::Skipped,
                failed("none", "the scenario untested"),
            ]
        );
    }

    #[test]
    fn a_run_that_ended_early_is_no_result() {
        for text in ["", "[]", "[\n{\"elements\":"] {
            assert!(read(text, "").is_err(), "{text}");
        }
    }
}
