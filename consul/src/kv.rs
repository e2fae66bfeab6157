//! Keys and values: `/v1/kv`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::client::Client;
use crate::encode;
use crate::error::Result;
use crate::request::Request;
use crate::response::{ReadOptions, Response};

/// One key as Consul stores it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KvPair {
    /// The whole key.
    pub key: String,
    /// The value. Empty in the results of a transaction's writes.
    #[serde(default, deserialize_with = "value")]
    pub value: Vec<u8>,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change: what `cas` compares with.
    pub modify_index: u64,
    /// How often its lock was taken.
    pub lock_index: u64,
    /// A number that Consul keeps for its clients.
    pub flags: u64,
    /// The session that holds its lock.
    #[serde(default)]
    pub session: Option<String>,
}

fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    STANDARD.decode(text.unwrap_or_default()).map_err(serde::de::Error::custom)
}

/// Conditions and additions of a write. At most one of `cas`, `acquire` and `release` makes sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Only if the key still has this modify index; 0: only if it does not exist.
    pub cas: Option<u64>,
    /// Only if this session gets, or has, the lock.
    pub acquire: Option<String>,
    /// Only if this session has the lock, which it gives back.
    pub release: Option<String>,
    /// The number to keep with the value.
    pub flags: u64,
}

impl PutOptions {
    /// Only if the key still has this modify index; 0: only if it does not exist.
    #[must_use]
    pub fn cas(index: u64) -> Self {
        Self { cas: Some(index), ..Self::default() }
    }

    /// Only if this session gets, or has, the lock.
    #[must_use]
    pub fn acquire(session: impl Into<String>) -> Self {
        Self { acquire: Some(session.into()), ..Self::default() }
    }

    /// Only if this session has the lock, which it gives back.
    #[must_use]
    pub fn release(session: impl Into<String>) -> Self {
        Self { release: Some(session.into()), ..Self::default() }
    }
}

/// Keys and values. Keys go into the URL, so those with an empty segment, `.` or `..` are refused
/// with [`crate::Error::Invalid`]; [`crate::txn`] can address them.
#[derive(Clone, Copy, Debug)]
pub struct Kv<'a>(pub(crate) &'a Client);

impl Kv<'_> {
    /// `GET /v1/kv/<key>`: the key, or `None`.
    ///
    /// # Errors
    /// See [`crate::Error`]; all are [`crate::Outcome::NotApplied`].
    pub async fn get(&self, key: &str, options: &ReadOptions) -> Result<Response<Option<KvPair>>> {
        let request = Request::get("kv.get", key_path(key)?)
            .options(options)
            .rule(encode::rule("key", key, "read"))
            .accepts(404);
        let raw = self.0.send(&request).await?;
        let pair = if raw.is_absent()? { None } else { raw.json::<Vec<KvPair>>()?.pop() };
        Ok(raw.with(pair))
    }

    /// `GET /v1/kv/<prefix>?recurse`: all keys that begin with `prefix`, in order; none is not an
    /// error. Consul leaves out what the token may not read.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn get_recurse(
        &self,
        prefix: &str,
        options: &ReadOptions,
    ) -> Result<Response<Vec<KvPair>>> {
        let request = Request::get("kv.get_recurse", encode::path("/v1/kv/", prefix)?)
            .query("recurse", "")
            .options(options)
            .rule(encode::rule("key", prefix, "read"))
            .accepts(404);
        let raw = self.0.send(&request).await?;
        let pairs = if raw.is_absent()? { Vec::new() } else { raw.json()? };
        Ok(raw.with(pairs))
    }

    /// `GET /v1/kv/<prefix>?keys`: the names only.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn keys(&self, prefix: &str, options: &ReadOptions) -> Result<Response<Vec<String>>> {
        let request = Request::get("kv.keys", encode::path("/v1/kv/", prefix)?)
            .query("keys", "")
            .options(options)
            .rule(encode::rule("key", prefix, "list"))
            .accepts(404);
        let raw = self.0.send(&request).await?;
        let keys = if raw.is_absent()? { Vec::new() } else { raw.json()? };
        Ok(raw.with(keys))
    }

    /// `PUT /v1/kv/<key>`: true when written, false when a condition did not hold (nothing was
    /// changed then). At most 512 KiB.
    ///
    /// # Errors
    /// See [`crate::Error`]; [`crate::Error::InvalidSession`] for a session that is gone.
    pub async fn put(
        &self,
        key: &str,
        value: impl Into<Bytes>,
        options: &PutOptions,
    ) -> Result<bool> {
        let request = Request::put("kv.put", key_path(key)?)
            .maybe("cas", options.cas)
            .maybe("acquire", options.acquire.as_ref())
            .maybe("release", options.release.as_ref())
            .maybe("flags", (options.flags != 0).then_some(options.flags))
            .rule(encode::rule("key", key, "write"))
            .body(value);
        self.0.send(&request).await?.json()
    }

    /// `DELETE /v1/kv/<key>`: true when the key is gone; false when `cas` was given and the key
    /// has another modify index.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn delete(&self, key: &str, cas: Option<u64>) -> Result<bool> {
        let request = Request::delete("kv.delete", key_path(key)?)
            .maybe("cas", cas)
            .rule(encode::rule("key", key, "write"));
        self.0.send(&request).await?.json()
    }

    /// `DELETE /v1/kv/<prefix>?recurse`: every key that begins with `prefix`. The empty prefix,
    /// which would be everything, is refused.
    ///
    /// # Errors
    /// See [`crate::Error`].
    pub async fn delete_recurse(&self, prefix: &str) -> Result<bool> {
        let path = encode::named("/v1/kv/", prefix, "prefix of the keys to delete")?;
        let request = Request::delete("kv.delete_recurse", path)
            .query("recurse", "")
            .rule(encode::rule("key", prefix, "write"));
        self.0.send(&request).await?.json()
    }
}

fn key_path(key: &str) -> Result<String> {
    encode::named("/v1/kv/", key, "key")
}
