//! One step, by the members' own REST actions: what they check, they check here, too.

use std::time::Duration;

use hart_ha::kv::FailoverRequest;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::plan::{self, Next};
use super::wish::Work;
use super::{LOOK, Roll, look, say};
use crate::cli::failover::request::{self, Done};
use crate::cli::version::dotted;
use crate::cli::{rest, upgrade};

/// So long a member may take to say what it has left out.
const COMPLAINS: Duration = Duration::from_secs(10);
/// What the answer may take beyond the restart.
const ANSWER: Duration = Duration::from_secs(15);

impl Roll {
    /// # Errors
    /// Why it was not done, and what to do.
    pub(super) async fn act(&mut self, step: &Next) -> Result<(), (String, String)> {
        if let Some(what) = say::doing(step) {
            self.teller.begin(&what);
        }
        match step {
            Next::Restart(name) => self.restart(name, "replica").await,
            Next::RestartLeader(name) => self.restart(name, "primary").await,
            Next::Switchover { from, to } => self.switchover(from, to).await,
            Next::Upgrade(name) => self.upgrade(name).await,
            Next::Done | Next::Wait { .. } | Next::Stop { .. } => Ok(()),
        }
    }

    fn note(&mut self, name: &str) {
        let seen = self.picture.members.iter().find(|seen| seen.name == name);
        let complaint = seen.and_then(|seen| seen.complaint.clone());
        self.acted.insert(name.to_owned(), complaint);
    }

    fn url(&self, name: &str, path: &str) -> Result<String, (String, String)> {
        let member = self.cluster.member(name).map_err(|fail| (fail.to_string(), String::new()))?;
        Ok(rest::url(&member.api_url, path))
    }

    async fn restart(&mut self, name: &str, role: &str) -> Result<(), (String, String)> {
        let url = self.url(name, "restart")?;
        self.note(name);
        let began = Instant::now();
        let answer = self.context.rest.post(&url, &self.body(role), self.timeout + ANSWER).await;
        match answer {
            Ok(answer) if answer.is_success() => {
                let seconds = began.elapsed().as_secs_f64();
                self.teller.line(&format!("{name}: PostgreSQL restarted in {seconds:.1} s"));
                Ok(())
            }
            Ok(answer) => {
                let said = answer.text.trim();
                let why = format!("{name} answered {} to the restart: {said}", answer.status);
                Err(self
                    .new_complaint(name)
                    .await
                    .unwrap_or_else(|| (why, format!("see `hart why {name}` and its log"))))
            }
            Err(why) => {
                let why = format!("whether {name} was restarted is not known: {why}");
                Err((why, "see whether it is there with `hart list`".to_owned()))
            }
        }
    }

    /// A value with which PostgreSQL does not start is named by the member a moment later, which starts it
    /// with the one before.
    async fn new_complaint(&mut self, name: &str) -> Option<(String, String)> {
        let end = Instant::now() + COMPLAINS;
        while Instant::now() < end {
            if let Ok((_, picture)) = look::look(&self.context, &mut self.known).await {
                self.picture = picture;
            }
            let seen = self.picture.members.iter().find(|seen| seen.name == name);
            let named = seen.and_then(|seen| plan::refusal(seen, &self.acted));
            if let Some(Next::Stop { why, remedy }) = named {
                return Some((why, remedy));
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// The member looks itself whether this still holds.
    fn body(&self, role: &str) -> Value {
        let mut body = Map::new();
        body.insert("role".to_owned(), role.into());
        body.insert("timeout".to_owned(), self.timeout.as_secs().into());
        match &self.rules.work {
            Work::Pending => drop(body.insert("restart_pending".to_owned(), true.into())),
            Work::Below(version) => {
                body.insert("postgres_version".to_owned(), dotted(*version).into());
            }
            Work::All(_) | Work::Agents => {}
        }
        Value::Object(body)
    }

    async fn switchover(&mut self, from: &str, to: &str) -> Result<(), (String, String)> {
        self.note(from);
        self.led = None;
        let wanted = FailoverRequest {
            leader: Some(from.to_owned()),
            member: Some(to.to_owned()),
            ..FailoverRequest::default()
        };
        let began = Instant::now();
        let remedy = || "see `hart why` and `hart events`".to_owned();
        let done = request::send(&self.context, &self.cluster, "switchover", &wanted).await;
        match done.map_err(|fail| (fail.to_string(), remedy()))? {
            Done::Member { answer, .. } if answer.is_success() => {
                let seconds = began.elapsed().as_secs_f64();
                self.teller.line(&format!("{to}: leads, after {seconds:.1} s"));
                Ok(())
            }
            Done::Member { answer, name } => {
                let said = answer.text.trim();
                Err((
                    format!("{name} answered {} to the switchover: {said}", answer.status),
                    remedy(),
                ))
            }
            Done::Written => {
                let why = "no member answers; the switchover was written to Consul".to_owned();
                Err((why, remedy()))
            }
        }
    }

    async fn upgrade(&mut self, name: &str) -> Result<(), (String, String)> {
        let member = self.cluster.member(name).map_err(|fail| (fail.to_string(), String::new()))?;
        let done = upgrade::one(&self.context.rest, name, member, false).await;
        self.note(name);
        let said = done.map_err(|why| {
            (why, format!("see the agent's log on {name}, and `hart check` there"))
        })?;
        self.teller.line(&said);
        Ok(())
    }
}
