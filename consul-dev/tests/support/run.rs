//! Runs a sequence on both sides and compares every answer and every state after it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hart_consul_dev::Server;
use serde_json::{Value, json};

use super::client::{Client, Req, Res, encode};
use super::compare::{Mapping, Outcome};
use super::consul::NODE;
use super::ops::{At, Op, Step, TxnStep, Wait, Who};

/// One server in a sequence.
struct Side {
    client: Client,
    real: bool,
    /// Create and modify index of each key that exists.
    known: BTreeMap<String, (u64, u64)>,
}

/// Both servers, the real one first.
pub struct Pair<'a> {
    real: Side,
    own: Side,
    server: &'a Server,
    prefix: String,
    pub mapping: Mapping,
}

impl<'a> Pair<'a> {
    /// `prefix` keeps sequences apart; it must be new.
    pub fn new(real: SocketAddr, server: &'a Server, prefix: &str) -> Self {
        let side =
            |address, real| Side { client: Client::new(address), real, known: BTreeMap::new() };
        let (real, own) = (side(real, true), side(server.addr(), false));
        Self { real, own, server, prefix: prefix.to_owned(), mapping: Mapping::default() }
    }

    /// Runs the steps and cleans up; the error has the place of the failing step.
    pub async fn run(mut self, steps: &[Step]) -> Result<(), (usize, String)> {
        let mut outcome = Ok(());
        for (at, step) in steps.iter().enumerate() {
            if let Err(why) = self.step(step).await {
                outcome = Err((at, format!("{step:?}: {why}")));
                break;
            }
        }
        let prefix = format!("/v1/kv/{}?recurse", self.prefix);
        for (real, own) in self.mapping.sessions.clone() {
            let end = |id| Req::new("PUT", format!("/v1/session/destroy/{id}"), "");
            let (real, own) = (end(real), end(own));
            tokio::join!(self.real.client.send(&real), self.own.client.send(&own));
        }
        self.both(&Req::new("DELETE", prefix, "")).await;
        outcome
    }

    /// Sends the same request to both.
    pub async fn both(&mut self, request: &Req) -> (Res, Res) {
        tokio::join!(self.real.client.send(request), self.own.client.send(request))
    }

    /// Sends the same request to both and compares.
    pub async fn same(&mut self, request: &Req) -> Outcome<(Res, Res)> {
        let (real, own) = self.both(request).await;
        self.mapping.answers(&real, &own).map_err(|e| format!("{request:?}: {e}"))?;
        Ok((real, own))
    }

    async fn step(&mut self, step: &Step) -> Outcome {
        let waiting = match &step.wait {
            Some(wait) => Some(self.block(wait).await?),
            None => None,
        };
        self.op(&step.op).await?;
        self.look().await?;
        match waiting {
            Some(waiting) => self.wake(waiting).await,
            None => Ok(()),
        }
    }

    async fn op(&mut self, op: &Op) -> Outcome {
        let request = |side: &Side| request(op, side, &self.prefix, &self.mapping);
        let (to_real, to_own) = (request(&self.real), request(&self.own));
        let (real, own) =
            tokio::join!(self.real.client.send(&to_real), self.own.client.send(&to_own));
        if matches!(op, Op::CreateSession { .. }) {
            let id = |r: &Res| r.json().and_then(|v| v["ID"].as_str().map(str::to_owned));
            let ids = id(&real).zip(id(&own));
            self.mapping.sessions.push(ids.ok_or_else(|| format!("{real:?} and {own:?}"))?);
        }
        self.mapping.answers(&real, &own).map_err(|e| format!("{to_real:?}: {e}"))
    }

    /// Compares all keys of the sequence.
    async fn look(&mut self) -> Outcome {
        let (real, own) = self.same(&Req::get(format!("/v1/kv/{}?recurse", self.prefix))).await?;
        self.real.learn(&real);
        self.own.learn(&own);
        Ok(())
    }

    /// Starts a blocking query on both sides.
    async fn block(&mut self, wait: &Wait) -> Outcome<Waiting> {
        let path = match wait {
            Wait::Key(key) => format!("/v1/kv/{}?", encode(&format!("{}{key}", self.prefix))),
            Wait::Prefix(p) => {
                format!("/v1/kv/{}?recurse&", encode(&format!("{}{p}", self.prefix)))
            }
            Wait::Sessions => "/v1/session/list?".to_owned(),
        };
        let (real, own) = self.same(&Req::get(&path)).await?;
        let index = |r: &Res| r.index().ok_or_else(|| format!("no index in {r:?}"));
        let (real_index, own_index) = (index(&real)?, index(&own)?);
        let start = |side: &Side, index: u64| {
            let request = Req::get(format!("{path}index={index}&wait=20s"));
            let address = side.client.address();
            tokio::spawn(async move { Client::new(address).send(&request).await })
        };
        let tasks = (start(&self.real, real_index), start(&self.own, own_index));
        let missing = real.status == 404;
        let mut patience = 30_000;
        while self.server.blocked() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            patience -= 1;
            if patience == 0 {
                return Err(format!("{path} does not block on index {own_index}"));
            }
        }
        Ok(Waiting { path, wait: wait.clone(), real_index, missing, tasks })
    }

    /// The query must come back when the index moved; when not, after a write that moves it.
    async fn wake(&mut self, waiting: Waiting) -> Outcome {
        let (real, _) = self.same(&Req::get(&waiting.path)).await?;
        let moved = real.index() > Some(waiting.real_index);
        let still_missing = waiting.missing && real.status == 404;
        if !moved || still_missing {
            self.touch(&waiting.wait).await?;
        }
        let before = self.mapping.own_index(waiting.real_index);
        let (real, own) = (waiting.tasks.0.await, waiting.tasks.1.await);
        let (real, own) = (real.map_err(|e| e.to_string())?, own.map_err(|e| e.to_string())?);
        if own.index() <= before {
            return Err(format!("{} came back without a change: {own:?}", waiting.path));
        }
        if still_missing {
            // The index of what is missing moves with every write; whether that wakes depends on
            // the version of the real one. Ours must have waited for the key.
            let seen = matches!(waiting.wait, Wait::Sessions) || own.status == 200;
            return if seen { Ok(()) } else { Err(format!("woken for nothing: {own:?}")) };
        }
        self.mapping.answers(&real, &own).map_err(|e| format!("woken on {}: {e}", waiting.path))
    }

    /// A write that moves the index of what is waited for.
    async fn touch(&mut self, wait: &Wait) -> Outcome {
        match wait {
            Wait::Key(key) | Wait::Prefix(key) => {
                let name = if key.is_empty() { "a" } else { key };
                let path = format!("/v1/kv/{}?flags=77", encode(&format!("{}{name}", self.prefix)));
                let path = path.replace("/?", "/touched?");
                let value = format!("touched {}", fastrand::u64(..));
                self.same(&Req::new("PUT", path, value)).await?;
            }
            Wait::Sessions => self.op(&Op::CreateSession { delete: false, delay: "0s" }).await?,
        }
        Ok(())
    }
}

struct Waiting {
    path: String,
    wait: Wait,
    real_index: u64,
    missing: bool,
    tasks: (tokio::task::JoinHandle<Res>, tokio::task::JoinHandle<Res>),
}

impl Side {
    fn learn(&mut self, listed: &Res) {
        self.known.clear();
        for entry in listed.json().as_ref().and_then(Value::as_array).into_iter().flatten() {
            let key = entry["Key"].as_str().unwrap_or_default().to_owned();
            let number = |name: &str| entry[name].as_u64().unwrap_or(0);
            self.known.insert(key, (number("CreateIndex"), number("ModifyIndex")));
        }
    }

    fn index(&self, prefix: &str, at: &At) -> u64 {
        let known = |key: &str| self.known.get(&format!("{prefix}{key}")).copied();
        match at {
            At::Zero => 0,
            At::Never => 3,
            At::Modified(key) => known(key).map_or(3, |(_, modified)| modified),
            At::Created(key) => known(key).map_or(3, |(created, _)| created),
        }
    }
}

fn session(who: &Who, side: &Side, mapping: &Mapping) -> String {
    let made = |at: usize| {
        let count = mapping.sessions.len();
        let (real, own) = mapping.sessions.get(at.checked_rem(count)?)?;
        Some(if side.real { real.clone() } else { own.clone() })
    };
    let unknown = || "00000000-0000-0000-0000-000000000000".to_owned();
    match who {
        Who::Made(at) => made(*at).unwrap_or_else(unknown),
        Who::Upper(at) => made(*at).map_or_else(unknown, |id| id.to_ascii_uppercase()),
        Who::Unknown => unknown(),
        Who::Malformed => "malformed".to_owned(),
        Who::Nobody => String::new(),
    }
}

fn request(op: &Op, side: &Side, prefix: &str, mapping: &Mapping) -> Req {
    let path = |key: &str| format!("/v1/kv/{}", encode(&format!("{prefix}{key}")));
    let id = |who: &Who| session(who, side, mapping);
    let at = |at: &At| side.index(prefix, at);
    let put = |path: String, body: &str| Req::new("PUT", path, body);
    match op {
        Op::Get(key, how) => Req::get(format!("{}?{how}", path(key))),
        Op::List(prefix, how) => Req::get(format!("{}?{how}", path(prefix))),
        Op::Put { key, value, flags } => {
            let flags = flags.map_or(String::new(), |flags| format!("?flags={flags}"));
            put(format!("{}{flags}", path(key)), value)
        }
        Op::Cas { key, value, at: when } => put(format!("{}?cas={}", path(key), at(when)), value),
        Op::Acquire { key, value, who } => put(format!("{}?acquire={}", path(key), id(who)), value),
        Op::Release { key, value, who } => put(format!("{}?release={}", path(key), id(who)), value),
        Op::Delete(key) => Req::new("DELETE", path(key), ""),
        Op::DeleteCas(key, when) => {
            Req::new("DELETE", format!("{}?cas={}", path(key), at(when)), "")
        }
        Op::DeleteTree(prefix) => Req::new("DELETE", format!("{}?recurse", path(prefix)), ""),
        Op::Txn(steps) => {
            let steps: Value = steps.iter().map(|s| txn_step(s, side, prefix, mapping)).collect();
            put("/v1/txn".to_owned(), &steps.to_string())
        }
        Op::CreateSession { delete, delay } => {
            let behavior = if *delete { "delete" } else { "release" };
            let body = json!({ "LockDelay": delay, "Behavior": behavior, "Checks": [] });
            put("/v1/session/create".to_owned(), &body.to_string())
        }
        Op::DestroySession(who) => put(format!("/v1/session/destroy/{}", id(who)), ""),
        Op::SessionInfo(who) => Req::get(format!("/v1/session/info/{}", id(who))),
        Op::RenewSession(who) => put(format!("/v1/session/renew/{}", id(who)), ""),
        Op::ListSessions => Req::get("/v1/session/list"),
        Op::NodeSessions => Req::get(format!("/v1/session/node/{NODE}")),
    }
}

fn txn_step(step: &TxnStep, side: &Side, prefix: &str, mapping: &Mapping) -> Value {
    json!({ "KV": {
        "Verb": step.verb,
        "Key": format!("{prefix}{}", step.key),
        "Value": STANDARD.encode(step.value),
        "Flags": step.flags,
        "Index": side.index(prefix, &step.at),
        "Session": session(&step.who, side, mapping),
    }})
}
