//! Asks the other members for their positions, all at once, each with a short deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hart_ha::kv::{Role, State, Tags};
use hart_ha::lsn::Lsn;
use hart_ha::observation::{PeerAnswer, Probe};
use serde::Deserialize;
use tokio::sync::Notify;

/// How long a member may take. Short enough to fit into the last of a lease.
const DEADLINE: Duration = Duration::from_millis(350);

#[derive(Default)]
struct Known {
    probes: BTreeMap<String, Probe>,
    asking: BTreeSet<String>,
}

/// The members' last answers.
#[derive(Clone)]
pub struct Peers {
    http: reqwest::Client,
    known: Arc<Mutex<Known>>,
    wake: Arc<Notify>,
}

impl Peers {
    /// No answers yet. `wake` is notified of each answer and of each silence.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(wake: Arc<Notify>) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(DEADLINE)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { http, known: Arc::default(), wake })
    }

    /// The answers so far.
    pub fn probes(&self) -> BTreeMap<String, Probe> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).probes.clone()
    }

    /// Asks these members (name → `…/patroni`), except those that are being asked already.
    pub fn ask(&self, members: BTreeMap<String, String>) {
        for (name, url) in members {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.asking.insert(name.clone()) {
                let peers = self.clone();
                tokio::spawn(async move { peers.ask_one(name, url).await });
            }
        }
    }

    async fn ask_one(&self, name: String, url: String) {
        let asked = hart_clock::now();
        let answer = fetch(&self.http, &url).await;
        if let Err(error) = &answer {
            tracing::debug!(member = %name, %error, "no answer over REST");
        }
        let probe = Probe { asked, answer: answer.ok() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asking.remove(&name);
        known.probes.insert(name, probe);
        drop(known);
        self.wake.notify_one();
    }
}

async fn fetch(http: &reqwest::Client, url: &str) -> reqwest::Result<PeerAnswer> {
    let status: Status = http.get(url).send().await?.json().await?;
    Ok(status.into())
}

/// The part of `GET /patroni` that matters here; Patroni's own members answer it as well.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Status {
    state: State,
    role: Role,
    timeline: u32,
    xlog: Xlog,
    tags: Tags,
    hart: Option<HartStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Xlog {
    location: Option<Lsn>,
    received_location: Option<Lsn>,
    replayed_location: Option<Lsn>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HartStatus {
    may_lead: Option<bool>,
    term: u64,
    follows: Option<u64>,
    promised: Option<Promised>,
}

#[derive(Deserialize)]
struct Promised {
    to: String,
}

impl From<Status> for PeerAnswer {
    fn from(status: Status) -> Self {
        let Xlog { location, received_location, replayed_location } = status.xlog;
        let hart = status.hart.unwrap_or_default();
        Self {
            state: status.state,
            role: status.role,
            timeline: status.timeline,
            position: location.max(received_location).max(replayed_location).unwrap_or_default(),
            tags: status.tags,
            may_lead: hart.may_lead,
            term: hart.term,
            follows: hart.follows,
            promised: hart.promised.map(|promised| promised.to),
        }
    }
}

/// Is a node of another installation alive behind this member's address?
pub async fn other_instance(url: &str, mine: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Who {
        hart: Option<Instance>,
    }
    #[derive(Deserialize)]
    struct Instance {
        instance: String,
    }
    let http =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().ok()?;
    let who: Who = http.get(url).send().await.ok()?.json().await.ok()?;
    let other = who.hart.map_or_else(|| "Patroni".to_owned(), |hart| hart.instance);
    (other != mine).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> PeerAnswer {
        serde_json::from_str::<Status>(text).unwrap().into()
    }

    #[test]
    fn hart_and_patroni_are_both_understood() {
        let patroni = read(
            r#"{"state":"running","role":"replica","timeline":3,
                "xlog":{"received_location":5,"replayed_location":7},"tags":{"nofailover":true}}"#,
        );
        assert_eq!((patroni.position, patroni.may_lead, patroni.timeline), (Lsn(7), None, 3));
        assert!(patroni.tags.nofailover);
        let text = r#"{"role":"master","xlog":{"location":9},
            "hart":{"may_lead":false,"term":7,"promised":{"to":"n1","term":6}}}"#;
        let hart = read(text);
        assert_eq!((hart.promised.as_deref(), patroni.promised), (Some("n1"), None));
        assert_eq!((hart.role, hart.position, hart.may_lead), (Role::Primary, Lsn(9), Some(false)));
        assert_eq!((hart.term, patroni.term), (7, 0));
    }

    #[test]
    fn a_node_without_data_answers_too() {
        let empty = read(r#"{"state":"creating replica","role":"uninitialized"}"#);
        assert_eq!((empty.state, empty.position), (State::CreatingReplica, Lsn(0)));
    }
}
