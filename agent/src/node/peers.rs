//! Asks the other members for their positions, all at once, each with a short deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hart_ha::kv::{Failsafe, Role, State, Tags};
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
    /// An address may have passed to a node of another cluster, whose word does not count.
    scope: Arc<str>,
    known: Arc<Mutex<Known>>,
    wake: Arc<Notify>,
}

impl Peers {
    /// No answers yet, of members of the cluster `scope`. `wake` is notified of each answer and of each
    /// silence.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(scope: &str, wake: Arc<Notify>) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(DEADLINE)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self { http, scope: scope.into(), known: Arc::default(), wake })
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
        let answer = match fetch(&self.http, &url).await {
            Ok(status) => status.of(&self.scope, &name),
            Err(error) => Err(error.to_string()),
        };
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

async fn fetch(http: &reqwest::Client, url: &str) -> reqwest::Result<Status> {
    http.get(url).send().await?.json().await
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
    patroni: Who,
    hart: Option<HartStatus>,
}

/// Who answers. Old members of Patroni do not say.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Who {
    scope: Option<String>,
    name: Option<String>,
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
    timeline_term: Option<u64>,
    promised: Option<Promised>,
    lease: Option<Deadline>,
    armed: Option<Deadline>,
    failsafe: Failsafe,
}

#[derive(Deserialize)]
struct Deadline {
    left_ms: u64,
}

#[derive(Deserialize)]
struct Promised {
    to: String,
}

impl Status {
    /// The answer, where it is that of this member of this cluster, as far as it says.
    fn of(self, scope: &str, name: &str) -> Result<PeerAnswer, String> {
        let Who { scope: its_scope, name: its_name } = &self.patroni;
        let other = its_scope.as_ref().is_some_and(|its| its != scope)
            || its_name.as_ref().is_some_and(|its| its != name);
        if other {
            let [its_name, its_scope] =
                [its_name, its_scope].map(|it| it.as_deref().unwrap_or("?"));
            return Err(format!("{its_name} of the cluster {its_scope} answers at its address"));
        }
        Ok(self.into())
    }
}

impl From<Status> for PeerAnswer {
    fn from(status: Status) -> Self {
        let Xlog { location, received_location, replayed_location } = status.xlog;
        let hart = status.hart.unwrap_or_default();
        Self {
            state: status.state,
            role: status.role,
            timeline: status.timeline,
            timeline_term: hart.timeline_term,
            position: location.max(received_location).max(replayed_location).unwrap_or_default(),
            tags: status.tags,
            may_lead: hart.may_lead,
            term: hart.term,
            follows: hart.follows,
            promised: hart.promised.map(|promised| promised.to),
            // An agent that has just started has not got its lease back, and its guard lets PostgreSQL
            // write all the same.
            holds: hart.lease.is_some() || hart.armed.is_some_and(|armed| armed.left_ms > 0),
            failsafe: hart.failsafe,
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
            "hart":{"may_lead":false,"term":7,"timeline_term":5,"promised":{"to":"n1","term":6},
            "lease":{"term":7,"left_ms":900},"failsafe":{"n1":"http://n1:8008/patroni"}}}"#;
        let hart = read(text);
        assert_eq!((hart.promised.as_deref(), patroni.promised), (Some("n1"), None));
        assert_eq!((hart.role, hart.position, hart.may_lead), (Role::Primary, Lsn(9), Some(false)));
        assert_eq!((hart.term, patroni.term), (7, 0));
        assert_eq!((hart.timeline_term, patroni.timeline_term), (Some(5), None));
        assert_eq!((hart.holds, patroni.holds), (true, false));
        assert!(hart.failsafe.contains_key("n1") && patroni.failsafe.is_empty());
        assert!(!read(r#"{"hart":{"lease":null,"armed":{"term":6,"left_ms":0}}}"#).holds);
        assert!(read(r#"{"hart":{"lease":null,"armed":{"term":6,"left_ms":1}}}"#).holds);
    }

    /// The address of a member that is gone may be the address of another cluster's primary.
    #[test]
    fn a_node_of_another_cluster_or_of_another_name_is_no_answer() {
        let answers = |who: &str| {
            let text = format!(r#"{{"role":"primary","patroni":{who}}}"#);
            serde_json::from_str::<Status>(&text).unwrap().of("demo", "n3")
        };
        assert_eq!(answers(r#"{"scope":"demo","name":"n3"}"#).unwrap().role, Role::Primary);
        assert_eq!(answers(r#"{"version":"2.1"}"#).unwrap().role, Role::Primary);
        let other = answers(r#"{"scope":"copy","name":"n3"}"#).unwrap_err();
        assert_eq!(other, "n3 of the cluster copy answers at its address");
        assert!(answers(r#"{"scope":"demo","name":"n4"}"#).is_err());
        assert!(answers(r#"{"name":"n4"}"#).is_err());
    }

    #[test]
    fn a_node_without_data_answers_too() {
        let empty = read(r#"{"state":"creating replica","role":"uninitialized"}"#);
        assert_eq!((empty.state, empty.position), (State::CreatingReplica, Lsn(0)));
    }
}
