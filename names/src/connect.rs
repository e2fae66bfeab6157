//! To a host by its name.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::names::Names;

/// Connects to the first of a host's addresses that takes the connection. Those that are left share the time that
/// is left: one that is silent does not use up the others' part.
///
/// # Errors
/// The name has no address, or none of them takes the connection until then; it is the last one's error.
pub async fn connect(
    names: &Names,
    host: &str,
    port: u16,
    until: Instant,
) -> io::Result<TcpStream> {
    let mut addresses = names.resolve(host, until).await?;
    addresses.iter_mut().for_each(|address| address.set_port(port));
    let mut last = None;
    for (tried, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(now) / left;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(silent(address)),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("the name has no address")))
}

fn silent(address: &SocketAddr) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))
}
