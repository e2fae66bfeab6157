//! What is kept of a round that went wrong.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hart_testkit::Cluster;

use crate::arguments::Arguments;

/// Where logs go. Made when something goes wrong.
pub(crate) fn directory(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(chosen) = &arguments.logs {
        return Ok(std::path::absolute(chosen)?);
    }
    let mode = arguments.mode.word();
    let name = format!("hart-torture-{mode}-{}-{}", arguments.seed, std::process::id());
    Ok(std::env::temp_dir().join(name))
}

/// Copies the logs of all agents, with PostgreSQL's, and of Consul.
pub(crate) fn logs(
    directory: &Path,
    round: usize,
    cluster: &mut Cluster,
    complaint: &str,
) -> Result<PathBuf> {
    let place = directory.join(format!("round-{round}"));
    let failed = || format!("cannot keep logs in {}", place.display());
    fs::create_dir_all(&place).with_context(failed)?;
    fs::write(place.join("complaint"), complaint).with_context(failed)?;
    for node in cluster.nodes() {
        fs::write(place.join(format!("{}.log", node.name())), node.log()).with_context(failed)?;
        keep_postgres(node.name(), &node.data_dir().join("log"), &place);
    }
    for (at, server) in cluster.servers().iter_mut().enumerate() {
        let Ok(process) = server.process() else { continue };
        fs::write(place.join(format!("consul{}.log", at + 1)), process.log())
            .with_context(failed)?;
    }
    Ok(place)
}

/// PostgreSQL's own log files, where it writes any.
fn keep_postgres(node: &str, from: &Path, place: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let name = format!("{node}-{}", entry.file_name().to_string_lossy());
        let _ = fs::copy(entry.path(), place.join(name));
    }
}
