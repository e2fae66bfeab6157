//! Asks the other members for their positions, all at once, each with a short deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hart_ha::observation::{PeerAnswer, Probe};
use hart_tls::Client as Tls;
use serde::Deserialize;
use tokio::sync::Notify;

use super::http;
use super::status::{PeerStatus, Who, Xlog};

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
    pub fn new(scope: &str, tls: &Tls, wake: Arc<Notify>) -> reqwest::Result<Self> {
        let http = http::client(tls)
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
        let (answer, present) = match fetch(&self.http, &url).await {
            Ok(status) => (answer(status, &self.scope, &name), true),
            Err(Silent { why, present }) => (Err(why), present),
        };
        if let Err(error) = &answer {
            tracing::debug!(member = %name, %error, "no answer over REST");
        }
        let probe = Probe { asked, answer: answer.ok(), present };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asking.remove(&name);
        known.probes.insert(name, probe);
        drop(known);
        self.wake.notify_one();
    }
}

/// No answer that counts.
#[derive(Debug)]
struct Silent {
    why: String,
    /// The host is there all the same: it refused the connection, or said something.
    present: bool,
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<PeerStatus, Silent> {
    let silent = |error: reqwest::Error| Silent {
        why: http::why(&error),
        present: http::is_refused(&error),
    };
    let answer = client.get(url).send().await.map_err(silent)?;
    // What begins and does not end is no sign of life.
    let text = http::text(answer).await.map_err(|why| Silent { why, present: false })?;
    PeerStatus::read(&text).map_err(|why| Silent { why, present: true })
}

/// The answer, where it is that of this member of this cluster, as far as it says.
fn answer(status: PeerStatus, scope: &str, name: &str) -> Result<PeerAnswer, String> {
    status.patroni.must_be(scope, name)?;
    Ok(status.into())
}

impl From<PeerStatus> for PeerAnswer {
    fn from(status: PeerStatus) -> Self {
        let plain = Self {
            state: status.state,
            role: status.role,
            timeline: status.timeline.unwrap_or_default(),
            position: status.xlog.as_ref().and_then(Xlog::furthest).unwrap_or_default(),
            tags: status.tags,
            ..Self::default()
        };
        let Some(hart) = status.hart.map(|own| own.word) else { return plain };
        Self {
            instance: Some(hart.instance),
            timeline_term: hart.timeline_term,
            may_lead: Some(hart.may_lead),
            term: hart.term,
            follows: hart.follows,
            unheard: hart.unheard_ms.map(Duration::from_millis),
            promised: hart.promised.map(|promised| promised.to),
            // An agent that has just started has not got its lease back, and its guard lets PostgreSQL
            // write all the same.
            holds: hart.lease.is_some() || hart.armed.is_some_and(|armed| armed.left_ms > 0),
            failsafe: hart.failsafe,
            ..plain
        }
    }
}

/// Who answers at an address.
#[derive(Debug)]
pub struct Present {
    /// Member name.
    pub name: String,
    /// The identity of its installation; `Patroni`: it has none.
    pub instance: String,
}

/// Who is alive behind this address?
pub async fn who(tls: &Tls, url: &str) -> Option<Present> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        patroni: Who,
        hart: Option<Instance>,
    }
    #[derive(Deserialize)]
    struct Instance {
        instance: String,
    }
    let http = http::client(tls).timeout(Duration::from_secs(2)).build().ok()?;
    let text = http::text(http.get(url).send().await.ok()?).await.ok()?;
    let said: Said = serde_json::from_str(&text).ok()?;
    let instance = said.hart.map_or_else(|| "Patroni".to_owned(), |hart| hart.instance);
    let name = said.patroni.name.unwrap_or_else(|| "another node".to_owned());
    Some(Present { name, instance })
}

#[cfg(test)]
mod tests {
    use hart_ha::kv::{Role, State};
    use hart_ha::lsn::Lsn;

    use super::*;

    fn read(text: &str) -> PeerAnswer {
        PeerStatus::read(text).unwrap().into()
    }

    #[test]
    fn hart_and_patroni_are_both_understood() {
        let patroni = read(
            r#"{"state":"running","role":"replica","timeline":3,
                "xlog":{"received_location":5,"replayed_location":7},"tags":{"nofailover":true}}"#,
        );
        assert_eq!((patroni.position, patroni.may_lead, patroni.timeline), (Lsn(7), None, 3));
        assert!(patroni.tags.nofailover);
        let text = r#"{"state":"running","role":"master","timeline":1,"xlog":{"location":9},
            "hart":{"instance":"i","may_lead":false,"term":7,"timeline_term":5,"follows":null,
            "promised":{"to":"n1","term":6,"left_ms":9},"lease":{"term":7,"left_ms":900},"armed":null,
            "failsafe":{"n1":"http://n1:8008/patroni"}}}"#;
        let hart = read(text);
        assert_eq!((hart.promised.as_deref(), patroni.promised), (Some("n1"), None));
        assert_eq!((hart.role, hart.position, hart.may_lead), (Role::Primary, Lsn(9), Some(false)));
        assert_eq!((hart.term, patroni.term), (7, 0));
        assert_eq!((hart.timeline_term, patroni.timeline_term), (Some(5), None));
        assert_eq!((hart.holds, patroni.holds), (true, false));
        assert!(hart.failsafe.contains_key("n1") && patroni.failsafe.is_empty());
        assert_eq!((hart.instance.as_deref(), patroni.instance), (Some("i"), None));
        let armed = |left: u64| {
            let lease = r#""lease":{"term":7,"left_ms":900},"armed":null"#;
            let armed = format!(r#""lease":null,"armed":{{"term":6,"left_ms":{left}}}"#);
            read(&text.replace(lease, &armed)).holds
        };
        assert_eq!((armed(0), armed(1)), (false, true));
    }

    /// The address of a member that is gone may be the address of another cluster's primary.
    #[test]
    fn a_node_of_another_cluster_or_of_another_name_is_no_answer() {
        let answers = |who: &str| {
            let text = format!(r#"{{"state":"running","role":"primary","patroni":{who}}}"#);
            answer(PeerStatus::read(&text).unwrap(), "demo", "n3")
        };
        assert_eq!(answers(r#"{"scope":"demo","name":"n3"}"#).unwrap().role, Role::Primary);
        assert_eq!(answers(r#"{"version":"2.1"}"#).unwrap().role, Role::Primary);
        let other = answers(r#"{"scope":"copy","name":"n3"}"#).unwrap_err();
        assert_eq!(other, "n3 of the cluster copy answers at its address");
        assert!(answers(r#"{"scope":"demo","name":"n4"}"#).is_err());
        assert!(answers(r#"{"name":"n4"}"#).is_err());
    }

    /// A host whose agent is gone is not a host that is gone.
    #[tokio::test]
    async fn a_host_that_refuses_the_connection_is_there() {
        let ask = async |url: String| {
            let client = http::client(&Tls::default()).timeout(DEADLINE).build().unwrap();
            fetch(&client, &url).await.unwrap_err().present
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/patroni", listener.local_addr().unwrap());
        assert!(!ask(url.clone()).await, "it takes the connection and says nothing");
        drop(listener);
        assert!(ask(url).await);
    }

    #[test]
    fn a_node_without_data_answers_too() {
        let empty = read(r#"{"state":"creating replica","role":"uninitialized"}"#);
        assert_eq!((empty.state, empty.position), (State::CreatingReplica, Lsn(0)));
    }
}
