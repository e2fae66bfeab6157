//! The answer of a health check for people: whoever asks for plain text, as Consul does, shows it
//! in an interface. JSON is for programs.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use hart_ha::kv::{HistoryEntry, Role};

use super::picture::Picture;
use crate::node::view::View;

/// Does the caller like plain text best? Consul sends `text/plain, text/*, */*`; no header, or
/// `*/*`, means the JSON that Patroni's clients expect.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let first = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()?.split(',').next());
    first.is_some_and(|first| first.trim().split(';').next() == Some("text/plain"))
}

/// Role, since when, timeline, and what a replica lacks. Nothing in it changes from one moment to
/// the next while all is well, for Consul writes each change down.
pub(super) fn line(picture: &Picture<'_>) -> String {
    let more = match picture.view.role {
        Role::Primary if picture.leads() => followers(picture),
        Role::Primary => "; it must not be written to".to_owned(),
        _ => behind(picture),
    };
    format!("{}{more}\n", role(picture))
}

/// What the node is, since when, and its timeline: what stays as it is until the next change of roles.
pub fn role_of(view: &View, name: &str) -> String {
    role(&Picture { view, name, now: hart_clock::now() })
}

fn role(picture: &Picture<'_>) -> String {
    let (view, name) = (picture.view, picture.name);
    let article = if view.role == Role::Primary { "the" } else { "a" };
    if !picture.answers() {
        return format!("{name} is {article} {} and does not run: {}", view.role, view.state);
    }
    let since = since(picture).map(|since| format!(" since {since}")).unwrap_or_default();
    let timeline = view.sql.as_ref().map(|sql| format!("; timeline {}", sql.timeline));
    format!("{name} is {article} {}{since}{}", view.role, timeline.unwrap_or_default())
}

/// When a primary was promoted; when any other server was started, which is when it became what it
/// is. To the second, in UTC.
fn since(picture: &Picture<'_>) -> Option<String> {
    let promoted = || {
        let history = picture.view.snapshot.as_ref()?.history.as_ref()?;
        let HistoryEntry(.., at, leader) = history.value.last()?;
        (leader == picture.name && !at.is_empty()).then(|| at.clone())
    };
    let started = || picture.view.probe.as_ref().map(|probe| probe.postmaster_start.clone());
    let promoted = if picture.view.role == Role::Primary { promoted() } else { None };
    promoted.or_else(started).map(|time| to_the_second(&time))
}

/// `2026-01-01T10:20:30.5Z` or `…+00:00` as `2026-01-01 10:20:30 UTC`.
fn to_the_second(time: &str) -> String {
    let seconds = time.get(..19).unwrap_or(time).replacen('T', " ", 1);
    format!("{seconds} UTC")
}

fn followers(picture: &Picture<'_>) -> String {
    let standbys = picture.view.sql.iter().flat_map(|sql| &sql.standbys);
    let mut names: Vec<&str> =
        standbys.filter(|row| row.streaming).map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => "; no replica streams from it".to_owned(),
        [one] => format!("; {one} streams from it"),
        [most @ .., last] => format!("; {} and {last} stream from it", most.join(", ")),
    }
}

fn behind(picture: &Picture<'_>) -> String {
    let mut text = String::new();
    if let Some(state) = picture.replication_state() {
        text.push_str(&format!("; {state}"));
    }
    let lag = picture.leader_end().zip(picture.replayed());
    if let Some((end, replayed)) = lag {
        text.push_str(&format!(", {} behind", amount(end.bytes_since(replayed))));
    }
    if picture.sync_word().is_some() {
        text.push_str("; synchronous");
    }
    text
}

/// Below a megabyte a healthy replica is behind by this or that from one check to the next.
fn amount(bytes: u64) -> String {
    match bytes >> 20 {
        0 => "less than 1 MB".to_owned(),
        megabytes @ 1..10_240 => format!("{megabytes} MB"),
        megabytes => format!("{} GB", megabytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_likes_text_best_gets_it() {
        let wanted = |accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            accept.map(|accept| headers.insert(ACCEPT, accept.parse().unwrap()));
            is_wanted(&headers)
        };
        assert!(wanted(Some("text/plain, text/*, */*")) && wanted(Some("text/plain;q=1")));
        assert!(!wanted(None) && !wanted(Some("*/*")) && !wanted(Some("application/json")));
        assert!(!wanted(Some("text/html,application/xhtml+xml")));
    }

    #[test]
    fn times_and_amounts_are_short() {
        assert_eq!(to_the_second("2026-01-01T10:20:30.500000Z"), "2026-01-01 10:20:30 UTC");
        assert_eq!(to_the_second("odd"), "odd UTC");
        assert_eq!([amount(9), amount(5 << 20)], ["less than 1 MB", "5 MB"]);
        assert_eq!(amount(20 << 30), "20 GB");
    }
}
