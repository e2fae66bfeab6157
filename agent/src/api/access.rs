//! Who may make calls that change something: no web page, then the allowlist, then HTTP Basic (RFC
//! 7617), then the caller's certificate where `verify_client` wants one. Where none of these is set, this host
//! and the members. Reading is open to all, as in Patroni, but with `verify_client: required`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hart_config::Credentials;
use hart_names::Names;
use hart_tls::Asked;
use tokio::time::Instant;

use super::browser;
use super::doors::{Here, all_hosts, member_hosts};
use super::handshake::Shown;
use super::reply::{self, StatusCode};
use crate::node::view::Handle;

/// How long the names in the allowlist may take to resolve.
const RESOLVE: Duration = Duration::from_secs(2);

/// `None`: go on. Otherwise the answer to give: 403 or 401.
pub(super) async fn refusal(
    handle: &Handle,
    peer: Option<SocketAddr>,
    here: Option<Here>,
    shown: Option<&Shown>,
    headers: &HeaderMap,
) -> Option<Response> {
    let forbidden = |line: String| Some(reply::text(StatusCode::FORBIDDEN, line));
    let is_ours = |name: &str| all_hosts(handle).iter().any(|host| host == name);
    if let Some(problem) = browser::problem(headers, is_ours) {
        return forbidden(problem);
    }
    let restapi = &handle.file.restapi;
    if restapi.has_allowlist() && !is_listed(handle, peer).await {
        return forbidden("Access is denied".to_owned());
    }
    if let Some(refusal) = without_certificate(handle, shown, true) {
        return Some(refusal);
    }
    let known = shown.is_some_and(|shown| shown.certificate);
    let wanted = handle.logins.good(hart_clock::now());
    if wanted.is_empty() {
        let guarded = restapi.has_allowlist() || known;
        let free = guarded || restapi.open || is_near(handle, peer, here).await;
        return if free { None } else { forbidden(remedy(peer)) };
    }
    let problem = match headers.get(AUTHORIZATION) {
        None => "no auth header received",
        Some(header) if wanted.iter().any(|login| is_right(header, login)) => return None,
        Some(_) => "not authenticated",
    };
    let mut response = reply::text(StatusCode::UNAUTHORIZED, problem);
    let challenge = HeaderValue::from_static("Basic realm=\"Patroni\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    Some(response)
}

/// The refusal of a call on a connection that does not have the certificate that it needs: 403. Who needs
/// one for everything has no connection without it, unless it is one from before a reload.
pub(super) fn without_certificate(
    handle: &Handle,
    shown: Option<&Shown>,
    changes: bool,
) -> Option<Response> {
    let asked = handle.tls.server.as_ref()?.asked();
    let needed = asked == Asked::Everybody || asked == Asked::Changing && changes;
    let known = shown.is_some_and(|shown| shown.certificate);
    let refusal = || reply::text(StatusCode::FORBIDDEN, "client certificate required");
    (needed && !known).then(refusal)
}

async fn is_near(handle: &Handle, peer: Option<SocketAddr>, here: Option<Here>) -> bool {
    let Some(peer) = peer else { return false };
    handle.doors.proves_near(handle, peer.ip(), here.map(|here| here.0)).await
}

fn remedy(peer: Option<SocketAddr>) -> String {
    let from = peer.map_or_else(|| "an unknown address".into(), |peer| peer.ip().to_string());
    format!(
        "calls that change something are taken from this host and the members' addresses only, not \
         from {from}: set restapi.authentication, restapi.allowlist or restapi.verify_client on all nodes \
         (or restapi.open: true, to take them from everybody)"
    )
}

/// Who calls, for the log: the address, the name in the certificate, and the user that has given the right
/// password.
pub(super) fn who(handle: &Handle, peer: Option<SocketAddr>, shown: Option<&Shown>) -> String {
    let address = peer.map_or_else(|| "somebody".to_owned(), |peer| peer.ip().to_string());
    let address = match shown.and_then(|shown| shown.name.as_ref()) {
        Some(name) => format!("{address} (certificate of {name})"),
        None => address,
    };
    match &handle.file.restapi.authentication {
        Some(login) => format!("{} at {address}", login.username),
        None => address,
    }
}

fn is_right(header: &HeaderValue, wanted: &Credentials) -> bool {
    let given = header.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((scheme, code)) = given else { return false };
    let Ok(pair) = STANDARD.decode(code.trim()) else { return false };
    let expected = format!("{}:{}", wanted.username, wanted.password.expose());
    scheme.eq_ignore_ascii_case("basic") && same(&pair, expected.as_bytes())
}

/// Compares in a time that depends on the length of `given` only.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let mut differs = u8::from(given.len() != expected.len());
    for (at, byte) in given.iter().enumerate() {
        differs |= std::hint::black_box(byte ^ expected.get(at).unwrap_or(&0));
    }
    std::hint::black_box(differs) == 0
}

async fn is_listed(handle: &Handle, peer: Option<SocketAddr>) -> bool {
    let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else { return false };
    let mut names = Vec::new();
    for entry in &handle.file.restapi.allowlist {
        match Network::read(entry) {
            Some(network) if network.contains(peer) => return true,
            Some(_) => {}
            None => names.push(entry.clone()),
        }
    }
    if handle.file.restapi.allowlist_include_members {
        names.extend(member_hosts(handle));
    }
    let found = tokio::time::timeout(RESOLVE, any_resolves_to(&names, peer)).await;
    found.unwrap_or_else(|_| {
        tracing::warn!(?names, "the names in restapi.allowlist did not resolve in time");
        false
    })
}

async fn any_resolves_to(names: &[String], peer: IpAddr) -> bool {
    for name in names {
        // What was known once lets nobody in.
        match Names::system().resolve_now(name, Instant::now() + RESOLVE).await {
            Ok(found) => {
                if found.iter().any(|address| address.ip().to_canonical() == peer) {
                    return true;
                }
            }
            Err(error) => tracing::warn!(%name, %error, "a host of the allowlist does not resolve"),
        }
    }
    false
}

/// An address, or a network in CIDR notation.
struct Network {
    base: IpAddr,
    bits: u32,
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (base, bits) = match text.trim().split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse().ok()?)),
            None => (text.trim(), None),
        };
        let base: IpAddr = base.trim_matches(['[', ']']).parse().ok()?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self { base, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let outside = match (self.base, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(32 - self.bits).unwrap_or(0).into()
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(128 - self.bits).unwrap_or(0)
            }
            _ => return false,
        };
        outside == 0_u128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.21", "10.0.0.21", true),
            ("10.0.0.21", "10.0.0.22", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/128", "fd00::1", false),
            ("::/0", "fd00::1", true),
        ];
        for (network, address, expected) in cases {
            let found = Network::read(network).unwrap().contains(address.parse().unwrap());
            assert_eq!(found, expected, "{address} in {network}");
        }
        for odd in ["db1.example", "10.0.0.0/33", "10.0.0.0/x", ""] {
            assert!(Network::read(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same(b"user:pass", b"user:pass"));
        for wrong in ["", "user:pas", "user:pass1", "user:past"] {
            assert!(!same(wrong.as_bytes(), b"user:pass"), "{wrong}");
        }
        assert!(!same(b"\0", b""));
    }
}
