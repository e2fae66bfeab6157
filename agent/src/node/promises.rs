//! Asks the other members to leave the lease alone while Consul is silent, and says how that goes.

use std::time::Duration;

use hart_ha::keeper::{Question, Round};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::store_task::chain;

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
    term: u64,
    ttl_ms: u64,
    /// The cluster: the member's address may have passed to a node of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
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
    /// To whom.
    pub promised: String,
    /// For which reign.
    pub term: u64,
    /// For at least so long, in milliseconds.
    pub ttl_ms: u64,
}

impl Word {
    /// Agreement to `question`.
    #[must_use]
    pub fn to(question: &Question) -> Self {
        let promised = question.holder.clone();
        Self { hart: Given { promised, term: question.term, ttl_ms: millis(question.ttl) } }
    }

    fn answers(&self, question: &Question) -> bool {
        let Given { promised, term, ttl_ms } = &self.hart;
        *promised == question.holder && *term == question.term && *ttl_ms >= millis(question.ttl)
    }
}

/// Reads the body of `POST /failsafe`.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read_question(scope: &str, body: &Map<String, Value>) -> Result<Question, String> {
    let body = Body::deserialize(&Value::Object(body.clone())).map_err(|error| {
        format!("expected {{\"name\", \"hart\": {{\"term\", \"ttl_ms\"}}}}: {error}")
    })?;
    if let Some(other) = body.hart.scope.filter(|asked| asked != scope) {
        return Err(format!("this is a member of the cluster {scope}, not of {other}"));
    }
    let ttl = Duration::from_millis(body.hart.ttl_ms);
    Ok(Question { holder: body.name, term: body.hart.term, ttl })
}

/// What one member said.
#[derive(Debug)]
pub struct Heard {
    /// The round.
    pub id: u64,
    /// The member.
    pub member: String,
    /// Agreed, or why not.
    pub word: Result<(), String>,
}

/// Asks over REST.
pub struct Asker {
    http: reqwest::Client,
    auth: Option<(String, hart_config::Secret)>,
    api_url: String,
    scope: String,
    /// What was said last of each silence, so that it is said once.
    said: Option<String>,
    going_on: bool,
}

impl Asker {
    /// Asks as the member whose configuration this is.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(config: &hart_config::Config, api_url: String) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        let auth = config.restapi.authentication.as_ref();
        let auth = auth.map(|auth| (auth.username.clone(), auth.password.clone()));
        let scope = config.scope.clone();
        Ok(Self { http, auth, api_url, scope, said: None, going_on: false })
    }

    /// Puts the question to all of them at once.
    pub fn ask(&self, round: Round, within: Duration, heard: &mpsc::UnboundedSender<Heard>) {
        for (member, url) in round.members {
            let request = self.request(&url, &round.question).timeout(within);
            let (question, heard) = (round.question.clone(), heard.clone());
            let id = round.id;
            tokio::spawn(async move {
                let word = fetch(request, &question).await;
                let _ = heard.send(Heard { id, member, word });
            });
        }
    }

    fn request(&self, url: &str, question: &Question) -> reqwest::RequestBuilder {
        let base = url.trim_end_matches('/').trim_end_matches("/patroni");
        let scope = Some(self.scope.clone());
        let terms = Terms { term: question.term, ttl_ms: millis(question.ttl), scope };
        let body =
            Body { name: question.holder.clone(), api_url: self.api_url.clone(), hart: terms };
        let request = self.http.post(format!("{base}/failsafe")).json(&body);
        match &self.auth {
            Some((user, word)) => request.basic_auth(user, Some(word.expose())),
            None => request,
        }
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

async fn fetch(request: reqwest::RequestBuilder, question: &Question) -> Result<(), String> {
    let answer = request.send().await.map_err(|error| chain(&error))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| chain(&error))?;
    if !status.is_success() {
        let line: String = text.chars().take(200).collect();
        return Err(format!("it answers {status}: {line}"));
    }
    let word: Option<Word> = serde_json::from_str(&text).ok();
    let agreed = word.is_some_and(|word| word.answers(question));
    agreed.then_some(()).ok_or_else(|| "its answer is not a promise (is it Patroni?)".to_owned())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question { holder: "n1".into(), term: 4, ttl: Duration::from_secs(3) }
    }

    #[test]
    fn the_body_comes_back_as_the_question() {
        let terms = Terms { term: 4, ttl_ms: 3000, scope: Some("demo".into()) };
        let body = Body { name: "n1".into(), api_url: String::new(), hart: terms };
        let body = serde_json::to_value(&body).unwrap();
        assert_eq!(read_question("demo", body.as_object().unwrap()), Ok(question()));
        let other = read_question("copy", body.as_object().unwrap()).unwrap_err();
        assert_eq!(other, "this is a member of the cluster copy, not of demo");
    }

    #[test]
    fn what_is_no_question_is_said() {
        for body in [r#"{}"#, r#"{"name":"n1"}"#, r#"{"name":"n1","hart":{"term":-1,"ttl_ms":1}}"#]
        {
            let body: Map<String, Value> = serde_json::from_str(body).unwrap();
            assert!(read_question("demo", &body).unwrap_err().contains("expected"), "{body:?}");
        }
    }

    #[test]
    fn only_the_same_holder_term_and_ttl_is_a_promise() {
        let asked = question();
        assert!(Word::to(&asked).answers(&asked));
        let other = |change: fn(&mut Question)| {
            let mut other = question();
            change(&mut other);
            Word::to(&other).answers(&asked)
        };
        assert!(!other(|q| q.holder = "n2".into()));
        assert!(!other(|q| q.term = 3));
        assert!(!other(|q| q.ttl = Duration::from_millis(2999)));
        assert!(other(|q| q.ttl = Duration::from_secs(9)));
    }
}
