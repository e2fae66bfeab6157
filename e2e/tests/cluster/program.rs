//! The command line, run on a host of the cluster.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use hart_testkit::{Cluster, hart_binary};

/// Runs `hart ARGUMENTS` on the host of `node` with that node's configuration file; it must
/// succeed. Its standard output.
pub(crate) fn hart(cluster: &Cluster, node: &str, arguments: &[&str]) -> Result<String> {
    let node = cluster.node(node)?;
    let mut command = Command::new(hart_binary()?);
    command.env("NO_COLOR", "1").arg("--config-file").arg(node.config_file()).args(arguments);
    let output = node.host().context("it has a host")?.output(&mut command)?;
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "hart {arguments:?}: {}\n{out}\n{errors}", output.status);
    Ok(out.into_owned())
}
