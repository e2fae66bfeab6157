//! `cargo xtask bench dns`: answers per second of the DNS responder, beside Consul's and NSD's.

use anyhow::Result;

use crate::command::{become_it, cargo};
use crate::setup;

/// Installs what is missing and measures the optimised build.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    setup::install(&[setup::DNSPERF, setup::CONSUL, setup::NSD])?;
    let bench = ["run", "--release", "--package", "hart-dns", "--bin", "dns-bench", "--"];
    become_it(cargo(&bench).args(arguments))
}
