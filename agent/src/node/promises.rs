//! Asks the other members to leave the lease alone while Consul is silent, and says how that goes.

use std::time::Duration;

use hart_ha::keeper::{Identity, Question, Round, ask_timeout};
use hart_tls::Client as Tls;
use hart_types::Chain;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::logins::Logins;
use super::status::Who;
use super::{http, word};

/// `POST /failsafe`: Patroni's fields, and hart's own. Patroni's members have no promise to give
/// that would be of use here: their answer does not have the shape of [`Word`].
#[derive(Serialize, Deserialize)]
struct Body {
    name: String,
    #[serde(default)]
    api_url: String,
    hart: Terms,
}

/// What is asked for.
#[derive(Serialize, Deserialize)]
struct Terms {
    /// Who is asked: the address may lead to another member.
    to: Member,
    /// The identity of the installation that asks.
    instance: String,
    term: u64,
    ttl_ms: u64,
    /// The cluster: the member's address may have passed to a node of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// A member, and its installation where that is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Member {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
}

/// The answer to a question that is agreed to.
#[derive(Serialize, Deserialize)]
pub struct Word {
    /// hart's own part.
    pub hart: Given,
}

/// A promise given.
#[derive(Serialize, Deserialize)]
pub struct Given {
    /// By whom.
    pub by: String,
    /// The identity of its installation.
    pub instance: String,
    /// Its cluster.
    pub scope: String,
    /// To whom.
    pub promised: String,
    /// For which reign.
    pub term: u64,
    /// For at least so long, in milliseconds.
    pub ttl_ms: u64,
}

impl Word {
    /// Agreement to `question`, by a member of the cluster `scope`.
    #[must_use]
    pub fn of(name: &str, instance: &str, scope: &str, question: &Question) -> Self {
        let [by, instance, scope] = [name, instance, scope].map(str::to_owned);
        let (promised, term) = (question.holder.clone(), question.term);
        let ttl_ms = millis(question.ttl);
        Self { hart: Given { by, instance, scope, promised, term, ttl_ms } }
    }

    /// Who gives it, where it is the answer to `question`.
    fn answers(self, question: &Question, scope: &str) -> Option<Identity> {
        let Given { by, instance, scope: its_scope, promised, term, ttl_ms } = self.hart;
        let is_it = promised == question.holder
            && term == question.term
            && ttl_ms >= millis(question.ttl)
            && its_scope == scope;
        is_it.then_some(Identity { name: by, instance: Some(instance) })
    }
}

/// Reads the body of `POST /failsafe`.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read_question(scope: &str, body: &Map<String, Value>) -> Result<Question, String> {
    let body = Body::deserialize(&Value::Object(body.clone())).map_err(|error| {
        format!(
            "expected {{\"name\", \"hart\": {{\"to\", \"instance\", \"term\", \"ttl_ms\"}}}}: {error}"
        )
    })?;
    if let Some(other) = body.hart.scope.filter(|asked| asked != scope) {
        return Err(format!("this is a member of the cluster {scope}, not of {other}"));
    }
    let ttl = Duration::from_millis(body.hart.ttl_ms);
    let Terms { to: Member { name, instance: theirs }, instance, term, .. } = body.hart;
    let to = Identity { name, instance: theirs };
    Ok(Question { to, holder: body.name, instance, term, ttl })
}

/// Does the one that asks say at its own address that it holds this lease? A member that was cut off
/// from Consul, or has just started, cannot know it otherwise.
pub async fn vouches(tls: &Tls, url: &str, scope: &str, question: &Question) -> bool {
    #[derive(Deserialize)]
    struct Said {
        patroni: Who,
        hart: word::Word,
    }
    // Whoever asks waits for no longer.
    let within = ask_timeout(question.ttl) / 5 * 4;
    let asked = async {
        let client =
            http::client(tls).timeout(within).build().map_err(|error| Chain(&error).to_string())?;
        let text =
            http::text(client.get(url).send().await.map_err(|error| http::why(&error))?).await?;
        let said: Said = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        said.patroni.must_be(scope, &question.holder)?;
        Ok::<_, String>(said.hart)
    };
    match asked.await {
        Ok(word) => {
            let holds = word.lease.is_some_and(|lease| lease.term == question.term);
            holds && word.instance == question.instance
        }
        Err(why) => {
            tracing::debug!("{} at {url} does not say that it leads: {why}", question.holder);
            false
        }
    }
}

/// What one member said.
#[derive(Debug)]
pub struct Heard {
    /// The round.
    pub id: u64,
    /// The member.
    pub member: String,
    /// Who has agreed, or why nobody has.
    pub word: Result<Identity, String>,
}

/// Asks over REST.
pub struct Asker {
    http: reqwest::Client,
    logins: Logins,
    api_url: String,
    scope: String,
    /// What was said last of each silence, so that it is said once.
    said: Option<String>,
    going_on: bool,
}

impl Asker {
    /// Asks as a member of the cluster `scope`.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(scope: &str, api_url: &str, logins: Logins, tls: &Tls) -> reqwest::Result<Self> {
        let http = http::client(tls).pool_idle_timeout(Duration::from_secs(30)).build()?;
        let [api_url, scope] = [api_url, scope].map(str::to_owned);
        Ok(Self { http, logins, api_url, scope, said: None, going_on: false })
    }

    /// Puts the question to all of them at once.
    pub fn ask(&self, round: Round, within: Duration, heard: &mpsc::UnboundedSender<Heard>) {
        for (member, (url, question)) in round.questions {
            let request = self.request(&url, &question).timeout(within);
            let (scope, logins, heard) = (self.scope.clone(), self.logins.clone(), heard.clone());
            let id = round.id;
            tokio::spawn(async move {
                let word = fetch(&logins, request, &question, &scope).await;
                let _ = heard.send(Heard { id, member, word });
            });
        }
    }

    fn request(&self, url: &str, question: &Question) -> reqwest::RequestBuilder {
        let base = url.trim_end_matches('/').trim_end_matches("/patroni");
        let scope = Some(self.scope.clone());
        let Identity { name, instance } = question.to.clone();
        let terms = Terms {
            to: Member { name, instance },
            instance: question.instance.clone(),
            term: question.term,
            ttl_ms: millis(question.ttl),
            scope,
        };
        let body =
            Body { name: question.holder.clone(), api_url: self.api_url.clone(), hart: terms };
        self.http.post(format!("{base}/failsafe")).json(&body)
    }

    /// Says, once each, that the lease goes on by promises, and that it does not any more.
    pub fn note(&mut self, going_on: bool, members: usize) {
        match (self.going_on, going_on) {
            (false, true) => tracing::info!(
                "Consul is silent; the lease goes on, for all other members ({members}) have promised \
                 to leave it alone (failsafe)"
            ),
            (true, false) => tracing::info!("the lease rests on Consul again"),
            _ => return,
        }
        self.going_on = going_on;
        self.said = None;
    }

    /// Says why the lease is not prolonged.
    pub fn complain(&mut self, member: &str, why: &str, left: Duration) {
        let text = format!("{member}: {why}");
        if self.said.as_ref() != Some(&text) {
            let left = left.as_secs_f32();
            tracing::warn!(
                "Consul is silent, and {member} does not promise to leave the lease alone \
                 (failsafe): {why}; PostgreSQL is fenced in {left:.1} s unless that changes"
            );
            self.said = Some(text);
        }
    }
}

async fn fetch(
    logins: &Logins,
    request: reqwest::RequestBuilder,
    question: &Question,
    scope: &str,
) -> Result<Identity, String> {
    let answer = logins.send(request).await.map_err(|error| http::why(&error))?;
    let status = answer.status();
    let text = http::text(answer).await?;
    if !status.is_success() {
        let line: String = text.chars().take(200).collect();
        return Err(format!("it answers {status}: {line}"));
    }
    let word: Option<Word> = serde_json::from_str(&text).ok();
    let giver = word.and_then(|word| word.answers(question, scope));
    let giver = giver.ok_or_else(|| "its answer is not a promise (is it Patroni?)".to_owned())?;
    if question.to.is(&giver) {
        return Ok(giver);
    }
    Err(format!("the promise at its address is that of {giver}, and {} was asked", question.to))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let to = Identity { name: "n2".into(), instance: Some("i2".into()) };
        let ttl = Duration::from_secs(3);
        Question { to, holder: "n1".into(), instance: "i1".into(), term: 4, ttl }
    }

    fn body(scope: &str) -> Map<String, Value> {
        let asker = Asker::new(scope, "http://n1:8008/patroni", Logins::default(), &Tls::default())
            .unwrap();
        let request = asker.request("http://n2:8008/patroni", &question()).build().unwrap();
        assert_eq!(request.url().as_str(), "http://n2:8008/failsafe");
        serde_json::from_slice(request.body().unwrap().as_bytes().unwrap()).unwrap()
    }

    #[test]
    fn the_body_comes_back_as_the_question() {
        assert_eq!(read_question("demo", &body("demo")), Ok(question()));
        let other = read_question("copy", &body("demo")).unwrap_err();
        assert_eq!(other, "this is a member of the cluster copy, not of demo");
    }

    #[test]
    fn what_is_no_question_is_said() {
        let whole = Value::Object(body("demo"));
        for field in ["to", "instance", "term", "ttl_ms"] {
            let mut less = whole.clone();
            less["hart"].as_object_mut().unwrap().remove(field);
            let error = read_question("demo", less.as_object().unwrap()).unwrap_err();
            assert!(error.contains("expected") && error.contains(field), "{error}");
        }
        for body in [r#"{}"#, r#"{"name":"n1"}"#, r#"{"name":"n1","hart":{"term":-1,"ttl_ms":1}}"#]
        {
            let body: Map<String, Value> = serde_json::from_str(body).unwrap();
            assert!(read_question("demo", &body).unwrap_err().contains("expected"), "{body:?}");
        }
    }

    #[test]
    fn only_the_same_holder_term_and_ttl_is_a_promise() {
        let asked = question();
        let answers = |word: Word| word.answers(&asked, "demo");
        let n2 = |question: &Question| Word::of("n2", "i2", "demo", question);
        assert_eq!(answers(n2(&asked)), Some(asked.to.clone()));
        let other = |change: fn(&mut Question)| {
            let mut other = question();
            change(&mut other);
            answers(n2(&other)).is_some()
        };
        assert!(!other(|q| q.holder = "n2".into()));
        assert!(!other(|q| q.term = 3));
        assert!(!other(|q| q.ttl = Duration::from_millis(2999)));
        assert!(other(|q| q.ttl = Duration::from_secs(9)));
        assert_eq!(answers(Word::of("n2", "i2", "copy", &asked)), None);
        let another = answers(Word::of("n3", "i3", "demo", &asked)).unwrap();
        assert!(!asked.to.is(&another), "who gives it is for the keeper to compare");
    }
}
