//! What is in Consul.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use hart_testkit::{Consul, Rest};
use serde_json::Value;

/// The value of `service/ha/<key>` as it is stored.
pub(crate) async fn raw(consul: &Consul, key: &str) -> Result<String> {
    let url = consul.url(&format!("/v1/kv/service/ha/{key}?raw"));
    let answer = Rest::new()?.get(&url).await?;
    anyhow::ensure!(answer.status == 200, "{key}: {} {}", answer.status, answer.text);
    Ok(answer.text)
}

/// As [`raw`], JSON without a blank between its tokens, as Patroni writes it.
pub(crate) async fn json(consul: &Consul, key: &str) -> Result<Value> {
    let text = raw(consul, key).await?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{key}: {text}"))?;
    let compact = value.to_string();
    anyhow::ensure!(compact == text, "{key} is not compact: {text}");
    Ok(value)
}

/// The session that locks a key.
pub(crate) async fn session(consul: &Consul, key: &str) -> Result<Option<String>> {
    let url = consul.url(&format!("/v1/kv/service/ha/{key}"));
    let entries = Rest::new()?.get(&url).await?.json()?;
    Ok(entries[0]["Session"].as_str().map(str::to_owned))
}

/// All keys below `service/ha/`, without that prefix.
pub(crate) async fn all(consul: &Consul) -> Result<BTreeSet<String>> {
    let url = consul.url("/v1/kv/service/ha/?keys");
    let keys: Vec<String> = serde_json::from_str(&Rest::new()?.get(&url).await?.text)?;
    Ok(keys.iter().map(|key| key.trim_start_matches("service/ha/").to_owned()).collect())
}

/// The healthy instances of service `ha`: node name → tags.
pub(crate) async fn members_in_service(
    consul: &Consul,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let answer = Rest::new()?.get(&consul.url("/v1/health/service/ha?passing=1")).await?.json()?;
    let entries = answer.as_array().context("no list of instances")?;
    let member = |entry: &Value| {
        let service = &entry["Service"];
        let name = service["ID"].as_str()?.strip_prefix("ha/")?.to_owned();
        let tags = service["Tags"].as_array()?.iter().filter_map(Value::as_str);
        Some((name, tags.map(str::to_owned).collect()))
    };
    entries.iter().map(|entry| member(entry).with_context(|| format!("{entry}"))).collect()
}
