//! What `cargo deny check bans licenses sources` would say, from cargo's own metadata: installing that
//! program takes a build of its own, and this takes a second. `deny.toml` has the lists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The packages that are built for Linux.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .arg("--filter-platform=x86_64-unknown-linux-gnu")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].take();
    let used: BTreeSet<&str> =
        nodes.as_array().unwrap().iter().filter_map(|node| node["id"].as_str()).collect();
    let Value::Array(mut packages) = metadata["packages"].take() else { panic!("no packages") };
    packages.retain(|package| package["id"].as_str().is_some_and(|id| used.contains(id)));
    packages
}

/// The texts in quotes of a list such as `allow = [ … ]`, or of all `{ crate = "…" }`.
fn listed(deny: &str, from: &str) -> Vec<String> {
    let list = deny.split(from).nth(1).unwrap_or_else(|| panic!("deny.toml has no {from:?}"));
    let list = list.split("\n]").next().unwrap();
    let lines = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned));
    quoted.collect()
}

/// Does an SPDX expression come true with these licences alone?
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.trim();
    if let Some(parts) = split(expression, " OR ").or_else(|| split(expression, "/")) {
        return parts.iter().any(|part| is_allowed(part, allowed));
    }
    if let Some(parts) = split(expression, " AND ") {
        return parts.iter().all(|part| is_allowed(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.iter().any(|licence| licence == expression),
    }
}

/// Splits outside of parentheses; `None` where there is nothing to split at.
fn split<'t>(text: &'t str, at: &str) -> Option<Vec<&'t str>> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (here, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && text[here..].starts_with(at) && here >= begin => {
                parts.push(&text[begin..here]);
                begin = here + at.len();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (parts.len() > 1).then_some(parts)
}

#[test]
fn dependencies_are_what_deny_toml_allows() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let (allowed, banned) = (listed(&deny, "\nallow = ["), listed(&deny, "\ndeny = ["));
    assert!(allowed.len() > 5 && banned.len() > 2, "{allowed:?} {banned:?}");
    let packages = packages();
    assert!(packages.len() > 200, "only {}", packages.len());
    let mut problems = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_allowed(licence, &allowed) {
            problems.push(format!("{name}: licence {licence:?}"));
        }
        if banned.iter().any(|banned| banned == name) {
            problems.push(format!("{name} is banned"));
        }
        let source = &package["source"];
        if !source.is_null() && source != REGISTRY {
            problems.push(format!("{name} comes from {source}"));
        }
    }
    assert_eq!(problems, [""; 0]);
}

#[test]
fn licences_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "ISC"].map(str::to_owned);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT OR ISC) AND (GPL-3.0 OR BSD)", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
