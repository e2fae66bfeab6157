//! A web page that somebody reads must not be able to change the cluster through the reader's browser.
//! `curl`, patronictl and hart send none of the headers by which a browser is known here.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};

/// Why a changing call is not taken: it comes from a page of another site. `is_ours` knows the names of
/// this cluster's hosts.
pub(super) fn problem(headers: &HeaderMap, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let of = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(site) = headers.get("sec-fetch-site")
        && !matches!(site.as_bytes(), b"same-origin" | b"none")
    {
        return Some("the request comes from a web page of another site".to_owned());
    }
    // What a form of any page can send, and no client of this API does.
    let kind = of(CONTENT_TYPE).unwrap_or_default().trim().to_ascii_lowercase();
    if kind.starts_with("text/plain") || kind.starts_with("multipart/") {
        return Some("the body is a web page's form; send application/json".to_owned());
    }
    let origin = of(ORIGIN)?;
    let host = of(HOST).unwrap_or_default();
    let from = origin.split_once("://").map(|(_, from)| from);
    if from != Some(&*host) {
        return Some("the request comes from a web page of another site (Origin)".to_owned());
    }
    // One site, but perhaps under a name that somebody else lets point here.
    let name = without_port(&host);
    let known = name.parse::<std::net::IpAddr>().is_ok() || name == "localhost" || is_ours(name);
    (!known).then(|| "the name in the Host header is none of this cluster's".to_owned())
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &str)]) -> bool {
        let map = headers.iter().map(|(name, value)| {
            (axum::http::HeaderName::from_static(name), value.parse().unwrap())
        });
        problem(&map.collect(), |name| name == "db1.example").is_some()
    }

    #[test]
    fn programs_are_let_through() {
        for headers in [
            &[][..],
            &[("host", "anything.example:8008")],
            // curl -d, patronictl, hart
            &[("content-type", "application/x-www-form-urlencoded"), ("host", "10.0.0.1:8008")],
            &[("content-type", "application/json")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://10.0.0.1:8008"), ("host", "10.0.0.1:8008")],
            &[("origin", "http://[fd00::1]:8008"), ("host", "[fd00::1]:8008")],
            &[
                ("origin", "http://db1.example:8008"),
                ("host", "db1.example:8008"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            assert!(!refused(headers), "{headers:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_not() {
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("content-type", "Text/Plain;charset=UTF-8")],
            &[("content-type", "multipart/form-data; boundary=x")],
            &[("origin", "null"), ("host", "10.0.0.1:8008")],
            &[("origin", "https://evil.example"), ("host", "10.0.0.1:8008")],
            &[("origin", "http://10.0.0.1"), ("host", "10.0.0.1:8008")],
            // A name of theirs that points here.
            &[
                ("origin", "http://evil.example:8008"),
                ("host", "evil.example:8008"),
                ("sec-fetch-site", "same-origin"),
            ],
        ] {
            assert!(refused(headers), "{headers:?}");
        }
    }
}
