//! The Python environment that the suite runs in.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::run::Host;
use crate::command::run;

/// What the suite imports beside what Patroni requires.
const SUITE: [&str; 3] = ["behave", "coverage", "psycopg2-binary"];

/// Clients of stores that hart does not know, and their clouds.
const OTHER_STORES: [&str; 4] = ["boto3", "kazoo", "python-etcd", "pysyncobj"];

/// Makes it, unless the folder has one of an earlier run.
pub(super) fn make(host: &Host, checkout: &Path) -> Result<()> {
    if host.path("venv/ready").exists() {
        return Ok(());
    }
    let file = checkout.join("requirements.txt");
    let wanted = fs::read_to_string(&file);
    let wanted = wanted.with_context(|| format!("cannot read {}", file.display()))?;
    let venv = host.path("venv");
    run(host.as_user("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = host.as_user(host.python());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(pip.args(required(&wanted)).args(SUITE))?;
    run(host.as_user("touch").arg(host.path("venv/ready")))
}

/// The lines of `requirements.txt` without those for other stores.
fn required(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| {
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let name = &line[..end.unwrap_or(line.len())];
        !name.is_empty() && !OTHER_STORES.contains(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_other_stores_are_left_out() {
        let text = "PyYAML\n# words\n\nkazoo>=1.3.1\npython-etcd>=0.4.3,<0.5\n\
                    py-consul>=1.1.1; python_version>=\"3.9\"\npython-dateutil\n";
        let required: Vec<_> = required(text).collect();
        let consul = "py-consul>=1.1.1; python_version>=\"3.9\"";
        assert_eq!(required, ["PyYAML", consul, "python-dateutil"]);
    }
}
