//! The `ip` command.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use super::netns::NetNs;

/// Runs `ip` with these arguments.
pub(super) fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.context("cannot run ip; is the package iproute2 installed?")?;
    check(&output, &arguments.join(" "))
}

/// Several commands for one namespace in a single run of `ip`.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    namespace: &'a NetNs,
    lines: Vec<String>,
}

impl<'a> Batch<'a> {
    pub(super) const fn in_namespace(namespace: &'a NetNs) -> Self {
        Self { namespace, lines: Vec::new() }
    }

    pub(super) fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    pub(super) fn run(self) -> Result<()> {
        let script = self.lines.join("\n") + "\n";
        let mut child = Command::new("ip")
            .args(["-netns", self.namespace.name(), "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ip; is the package iproute2 installed?")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes())?;
        }
        check(&child.wait_with_output()?, &script)
    }
}

fn check(output: &Output, what: &str) -> Result<()> {
    if !output.status.success() {
        bail!("ip failed: {}\n{what}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
