//! `hart generate-config` and `hart generate-sample-config`: a node's configuration file to begin with, from a
//! PostgreSQL that runs here, or from nothing. No passwords are written; the file says where they belong.

mod running;
mod sample;
mod yaml;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::fail::Fail;
use crate::cli::out::print;

/// Arguments of `hart generate-sample-config`.
#[derive(Args, Clone, Debug)]
pub struct SampleArgs {
    /// The file to write; one that is there is left alone. Without it: standard output.
    file: Option<PathBuf>,
}

/// Arguments of `hart generate-config`.
#[derive(Args, Clone, Debug)]
pub struct RunningArgs {
    /// The file to write; one that is there is left alone. Without it: standard output.
    file: Option<PathBuf>,
    /// How to connect to the PostgreSQL of this machine, as a superuser, such as "host=/var/run/postgresql
    /// user=postgres"; what is not in it comes from PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE. A password is
    /// better in PGPASSWORD: arguments can be seen by others.
    #[arg(long, value_name = "DSN", default_value = "")]
    dsn: String,
}

/// Writes a sample for this machine.
///
/// # Errors
/// The file is there, or cannot be written.
pub fn sample(args: &SampleArgs) -> Result<ExitCode, Fail> {
    put(args.file.as_deref(), &sample::text(&host_name(), address()))
}

/// Writes what the PostgreSQL of this machine is set to.
///
/// # Errors
/// It cannot be asked, or not by a superuser; the file is there, or cannot be written.
pub async fn running(args: RunningArgs) -> Result<ExitCode, Fail> {
    let found = running::ask(&args.dsn).await?;
    let text = found.text(&host_name(), address());
    for note in found.notes() {
        eprintln!("hart: {note}");
    }
    put(args.file.as_deref(), &text)
}

fn put(file: Option<&Path>, text: &str) -> Result<ExitCode, Fail> {
    let Some(path) = file else { return Ok(print(text.trim_end())) };
    let failed = |error: &std::io::Error| {
        Fail::failed(format!("{}: {error}", path.display()))
            .hint("name a file that is not there, in a folder that can be written to")
    };
    // Group for the user that the agent runs as.
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o640).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| failed(&error))?;
    eprintln!("hart: {} is written; look it over with `hart check {0}`", path.display());
    Ok(ExitCode::SUCCESS)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "n1".to_owned() } else { name.to_owned() }
}

/// The address of this machine that others see, by the way that its packets would take; nothing is sent.
fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}
