//! Prometheus on `meta` against the live cluster: rules, dashboards, and the names in both.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::package;
use crate::roots::Machine;

const LONG: Duration = Duration::from_secs(120);

/// Absent where it has nothing to say: without HTTPS. A test of the agent's has it.
const NOT_HERE: &str = "hart_certificate_expires_timestamp_seconds";

pub(super) struct Monitoring<'a> {
    meta: &'a Machine,
}

impl<'a> Monitoring<'a> {
    pub(super) fn new(machines: &'a [Machine]) -> Result<Self> {
        let meta = machines.iter().find(|machine| machine.name == "meta");
        Ok(Self { meta: meta.context("there is no meta")? })
    }

    pub(super) fn check(&self) -> Result<()> {
        let up = "curl --silent 'http://127.0.0.1:9090/api/v1/query?query=sum(up)'";
        self.meta.wait(up, LONG, |text| text.contains("\"3\""))?;
        self.names()?;
        self.rules()?;
        self.dashboards()
    }

    /// Every metric that a rule or a dashboard speaks of is exposed by the agents.
    fn names(&self) -> Result<()> {
        let text =
            self.meta.shell("curl --silent http://127.0.0.1:9090/api/v1/label/__name__/values")?;
        let answer: Value = serde_json::from_str(&text)?;
        let known: BTreeSet<&str> =
            answer["data"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut texts = vec![read("templates/prometheus/hart.rules.yml")?];
        for (_, query) in queries()? {
            texts.push(query);
        }
        let used: BTreeSet<String> = texts.iter().flat_map(|text| metrics(text)).collect();
        let strange = |name: &&String| !known.contains(name.as_str()) && *name != NOT_HERE;
        let strange: Vec<_> = used.iter().filter(strange).collect();
        ensure!(strange.is_empty(), "no agent exposes {strange:?}");
        println!("the agents expose all {} metrics that rules and dashboards speak of", used.len());
        Ok(())
    }

    /// All are loaded and evaluated without an error, and nothing critical fires.
    fn rules(&self) -> Result<()> {
        let ask = "curl --silent http://127.0.0.1:9090/api/v1/rules";
        let done = |text: &str| rules(text).iter().all(|rule| rule["health"] == "ok");
        let text = self.meta.wait(ask, LONG, |text| !rules(text).is_empty() && done(text))?;
        let rules = rules(&text);
        let critical =
            |rule: &&Value| rule["state"] == "firing" && rule["labels"]["severity"] == "critical";
        let firing: Vec<_> = rules.iter().filter(critical).map(|rule| &rule["name"]).collect();
        ensure!(firing.is_empty(), "critical alerts fire in a healthy cluster: {firing:?}");
        println!("Prometheus has evaluated {} rules", rules.len());
        Ok(())
    }

    /// Every query is taken, and answers with something.
    fn dashboards(&self) -> Result<()> {
        let queries = queries()?;
        for (panel, query) in &queries {
            let asked = query.replace("$scope", "ha").replace('\'', "'\\''");
            let ask = format!(
                "curl --silent --get http://127.0.0.1:9090/api/v1/query --data-urlencode 'query={asked}'"
            );
            // What happened in the last minutes may be nothing.
            let may_be_empty = query.contains("increase(");
            let answered = |text: &str| {
                let answer: Value = serde_json::from_str(text).unwrap_or_default();
                let some = answer["data"]["result"].as_array().is_some_and(|rows| !rows.is_empty());
                answer["status"] == "success" && (some || may_be_empty)
            };
            self.meta.wait(&ask, LONG, answered).with_context(|| format!("panel {panel:?}"))?;
        }
        println!("Prometheus answers all {} queries of the dashboards", queries.len());
        Ok(())
    }
}

fn rules(text: &str) -> Vec<Value> {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
}

fn read(path: &str) -> Result<String> {
    let path = package::root()?.join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Title of the panel, and a query in it.
fn queries() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for file in ["templates/grafana/hart-fleet.json", "templates/grafana/hart-cluster.json"] {
        let dashboard: Value = serde_json::from_str(&read(file)?).context(file)?;
        for panel in dashboard["panels"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or_default();
            let targets = panel["targets"].as_array().into_iter().flatten();
            let queries = targets.filter_map(|target| target["expr"].as_str());
            found.extend(queries.map(|query| (title.to_owned(), query.to_owned())));
        }
    }
    ensure!(found.len() > 20, "the dashboards have only {} queries", found.len());
    Ok(found)
}

/// The names of hart's metrics in an expression.
fn metrics(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("patroni_") || word.starts_with("hart_"));
    ours.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command::find;

    #[test]
    fn names_are_found() {
        let found: Vec<_> =
            metrics("max by (scope) (hart_term{name=\"x\"}) > patroni_primary").collect();
        assert_eq!(found, ["hart_term", "patroni_primary"]);
        assert!(
            queries()
                .expect("read")
                .iter()
                .any(|(_, query)| query.contains("hart_lease_left_seconds"))
        );
    }

    /// Prometheus' own tool runs the tests of the rules; and it notices each rule that is gone or never fires.
    #[test]
    fn every_alert_fires_and_does_not() {
        if find("promtool").is_none() {
            eprintln!("skipped: there is no promtool");
            return;
        }
        let rules = read("templates/prometheus/hart.rules.yml").expect("read");
        let tests = read("templates/prometheus/hart.tests.yml").expect("read");
        let dir = std::env::temp_dir().join(format!("xtask-{}-rules", std::process::id()));
        fs::create_dir_all(&dir).expect("directory");
        fs::write(dir.join("hart.tests.yml"), tests).expect("written");
        let holds = |rules: &str| {
            fs::write(dir.join("hart.rules.yml"), rules).expect("written");
            let mut promtool = Command::new("promtool");
            promtool.args(["test", "rules", "hart.tests.yml"]).current_dir(&dir);
            promtool.output().expect("promtool runs").status.success()
        };
        assert!(holds(&rules), "run promtool test rules in templates/prometheus");
        let expressions: Vec<&str> =
            rules.lines().filter(|line| line.trim_start().starts_with("expr: ")).collect();
        assert_eq!(expressions.len(), 9);
        for expression in expressions {
            let never = expression.replacen("expr: ", "expr: vector(1) < 0 and ", 1);
            assert!(
                !holds(&rules.replace(expression, &never)),
                "nothing notices that this never fires: {expression}"
            );
            let always = expression.replacen("expr: ", "expr: vector(1) or ", 1);
            assert!(
                !holds(&rules.replace(expression, &always)),
                "nothing notices that this always fires: {expression}"
            );
        }
        fs::remove_dir_all(dir).expect("removed");
    }
}
