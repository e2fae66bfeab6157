//! The addresses that the node listens on.

use std::io::ErrorKind;
use std::time::Duration;

use hart_config::Config;
use hart_names::{Names, NoAddress};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::item::Item;
use crate::cli::rest::Rest;

const SUBJECT: &str = "port";
/// How long names and the neighbour's REST API may take.
const LOOK: Duration = Duration::from_secs(3);

/// Are the ports of PostgreSQL and of the REST API free, or taken by this very node?
pub async fn check(config: &Config, postmaster: Option<i32>) -> Vec<Item> {
    let mut items = Vec::new();
    for host in &config.postgresql.listen.hosts {
        let port = config.postgresql.listen.port;
        items.push(match (can_listen(Names::system(), host, port, LOOK).await, postmaster) {
            (Err(ErrorKind::AddrInUse), Some(_)) => {
                Item::ok(SUBJECT, format!("{host}:{port} is PostgreSQL's"))
            }
            (Err(ErrorKind::AddrNotAvailable), _) if config.postgresql.listen.hosts.len() > 1 => {
                let found = format!("{host} is no address of this machine now");
                let remedy = "PostgreSQL listens there only if it is there when PostgreSQL starts; for an \
                              address that moves, listen on * or set net.ipv4.ip_nonlocal_bind to 1";
                Item::warn(SUBJECT, found, remedy)
            }
            (result, _) => item(host, port, "postgresql.listen", result),
        });
    }
    let listen = &config.restapi.listen;
    let result = can_listen(Names::system(), &listen.host, listen.port, LOOK).await;
    items.push(if result == Err(ErrorKind::AddrInUse) && is_own_agent(config).await {
        Item::ok(SUBJECT, format!("{listen} is this node's agent's"))
    } else {
        item(&listen.host, listen.port, "restapi.listen", result)
    });
    items
}

fn item(host: &str, port: u16, key: &str, result: Result<(), ErrorKind>) -> Item {
    match result {
        Ok(()) => Item::ok(SUBJECT, format!("{host}:{port} is free")),
        Err(ErrorKind::AddrInUse) => {
            let remedy = format!("stop the program that has it (ss -ltnp), or change {key}");
            Item::fail(SUBJECT, format!("{host}:{port} is taken"), remedy)
        }
        Err(ErrorKind::AddrNotAvailable) => {
            let remedy = format!("set {key} to an address that `ip address` shows");
            Item::fail(SUBJECT, format!("{host} is no address of this machine"), remedy)
        }
        Err(ErrorKind::TimedOut) => {
            let remedy =
                format!("see to the resolver in /etc/resolv.conf, or give an address in {key}");
            Item::fail(SUBJECT, format!("the resolver does not answer for {host}"), remedy)
        }
        Err(ErrorKind::NotFound) => {
            let remedy = format!("enter it in DNS or /etc/hosts, or give an address in {key}");
            Item::fail(SUBJECT, format!("{host} has no address"), remedy)
        }
        Err(kind) => Item::fail(SUBJECT, format!("{host}:{port}: {kind}"), format!("see {key}")),
    }
}

/// A look-up that the resolver leaves unanswered holds nobody up, not even at the end of the program.
async fn can_listen(
    names: &Names,
    host: &str,
    port: u16,
    within: Duration,
) -> Result<(), ErrorKind> {
    let host = match host {
        "*" | "" => "0.0.0.0",
        host => host,
    };
    let addresses =
        names.resolve_now(host, Instant::now() + within).await.map_err(|why| match why {
            NoAddress::Silent { .. } => ErrorKind::TimedOut,
            NoAddress::NoSuchName { .. } | NoAddress::Failed { .. } => ErrorKind::NotFound,
        })?;
    for address in addresses {
        TcpListener::bind((address.ip(), port)).await.map_err(|error| error.kind())?;
    }
    Ok(())
}

/// Does the agent of this node answer there?
async fn is_own_agent(config: &Config) -> bool {
    let Ok(rest) = Rest::new(config) else { return false };
    let status = rest.get_json(&config.restapi.url("/patroni"), LOOK).await.unwrap_or_default();
    status["patroni"]["scope"] == config.scope.as_str()
        && status["patroni"]["name"] == config.name.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::item::Level;

    #[tokio::test]
    async fn a_taken_port_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let result = can_listen(Names::system(), "127.0.0.1", port, LOOK).await;
        assert_eq!(result, Err(ErrorKind::AddrInUse));
        assert_eq!(item("127.0.0.1", port, "restapi.listen", result).level, Level::Fail);
    }

    #[tokio::test]
    async fn a_foreign_address_is_found() {
        // TEST-NET-1 of RFC 5737 is nobody's.
        assert_eq!(
            can_listen(Names::system(), "192.0.2.1", 1, LOOK).await,
            Err(ErrorKind::AddrNotAvailable)
        );
    }

    /// The look-up outlives the check, on a thread that nobody waits for.
    #[tokio::test]
    async fn a_silent_resolver_is_said_and_not_waited_for() {
        let (_open, never) = std::sync::mpsc::channel::<()>();
        let never = std::sync::Mutex::new(never);
        let names = Names::by(move |_| {
            let _ = never.lock().unwrap().recv();
            Ok(Vec::new())
        });
        let result = can_listen(&names, "pg1.example", 5432, Duration::from_millis(50)).await;
        assert_eq!(result, Err(ErrorKind::TimedOut));
        let item = item("pg1.example", 5432, "postgresql.listen", result);
        assert_eq!(item.found, "the resolver does not answer for pg1.example");
    }
}
