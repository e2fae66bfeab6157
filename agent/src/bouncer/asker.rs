//! The leader's end: asks all agents with poolers at once, its own among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hart_ha::keeper::Addressee;
use hart_ha::kv::Term;
use hart_ha::observation::PoolersAnswer;
use hart_ha::time::Time;
use tokio::sync::Notify;

use super::question::{Question, Terms, Who, Whom, Word};
use crate::node::http;
use crate::node::logins::Logins;

/// An agent may take so much longer to answer than its poolers may take to pause.
const ANSWER: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Known {
    answers: BTreeMap<String, PoolersAnswer>,
    asking: BTreeSet<String>,
}

/// Asks over REST.
#[derive(Clone)]
pub struct Asker {
    http: reqwest::Client,
    logins: Logins,
    me: Who,
    scope: String,
    known: Arc<Mutex<Known>>,
    wake: Arc<Notify>,
}

impl Asker {
    /// Asks as `me`, a member of `scope`; `wake` is notified of each answer.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        me: Who,
        scope: &str,
        logins: Logins,
        tls: &hart_tls::Client,
        wake: Arc<Notify>,
    ) -> reqwest::Result<Self> {
        let http = http::client(tls).build()?;
        Ok(Self { http, logins, me, scope: scope.to_owned(), known: Arc::default(), wake })
    }

    /// The answers so far.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<String, PoolersAnswer> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).answers.clone()
    }

    /// Has the members' poolers paused, except those that are being asked already.
    pub fn pause(
        &self,
        members: BTreeMap<String, Addressee>,
        term: Term,
        attempt: Time,
        within: Duration,
    ) {
        for (name, whom) in members {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.asking.insert(name.clone()) {
                let (asker, question) =
                    (self.clone(), self.question(&name, &whom, term, attempt, Some(within)));
                tokio::spawn(async move { asker.ask(name, whom.url, question).await });
            }
        }
    }

    /// Lets the members' poolers go on. Who is not reached does so by itself a little later.
    pub fn resume(&self, members: BTreeMap<String, Addressee>, term: Term, attempt: Time) {
        for (name, whom) in members {
            let question = self.question(&name, &whom, term, attempt, None);
            let request = self.request(&whom.url, &question);
            let logins = self.logins.clone();
            tokio::spawn(async move {
                if let Err(why) = said(&logins, request.timeout(ANSWER), &question).await {
                    tracing::warn!(
                        "{name} was not told that its PgBouncers may go on: {why}; they do so by \
                         themselves after its pgbouncer.max_pause"
                    );
                }
            });
        }
    }

    fn question(
        &self,
        name: &str,
        whom: &Addressee,
        term: Term,
        attempt: Time,
        within: Option<Duration>,
    ) -> Question {
        let millis = |by: Duration| u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        let attempt = millis(Time::ZERO.until(attempt));
        let to = Whom { name: name.to_owned(), instance: whom.instance.clone() };
        let Who { name, instance } = self.me.clone();
        let (scope, pause_ms) = (self.scope.clone(), within.map(millis));
        Question { name, hart: Terms { to, instance, scope, term, attempt, pause_ms } }
    }

    async fn ask(&self, name: String, url: String, question: Question) {
        let asked = hart_clock::now();
        let within = question.within().unwrap_or_default() + ANSWER;
        let paused =
            said(&self.logins, self.request(&url, &question).timeout(within), &question).await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asking.remove(&name);
        known.answers.insert(name, PoolersAnswer { asked, paused });
        drop(known);
        self.wake.notify_one();
    }

    fn request(&self, url: &str, question: &Question) -> reqwest::RequestBuilder {
        let base = url.trim_end_matches('/').trim_end_matches("/patroni");
        self.http.post(format!("{base}/pgbouncer")).json(question)
    }
}

async fn said(
    logins: &Logins,
    request: reqwest::RequestBuilder,
    question: &Question,
) -> Result<(), String> {
    let answer = logins.send(request).await.map_err(|error| {
        format!(
            "its agent does not answer, so its PgBouncers are not paused: {}",
            http::why(&error)
        )
    })?;
    let status = answer.status();
    let text = http::text(answer).await.unwrap_or_default();
    if status.is_success() {
        let word: Result<Word, _> = serde_json::from_str(&text);
        let word = word.map_err(|error| format!("its answer cannot be read: {error}"))?;
        return word.must_answer(question);
    }
    let line: String = text.chars().take(400).collect();
    Err(if line.is_empty() { format!("it answers {status}") } else { line })
}
