//! A request for a switchover or failover, and the rules that it must keep to. The texts are
//! Patroni's, because `patronictl` shows them.

use hart_ha::kv::{FailoverRequest, SynchronousMode};
use hart_ha::store::Snapshot;
use serde_json::{Map, Value};

use super::reply::StatusCode;
use super::schedule;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The leader, which is named, gives way.
    Switchover,
    /// The candidate, which is named, is to lead.
    Failover,
}

impl Action {
    /// `switchover`
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
        }
    }

    /// `Switchover`
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Switchover => "Switchover",
            Self::Failover => "Failover",
        }
    }

    /// What is said when `leader` leads now.
    pub(super) fn success(self, leader: &str, wanted: Option<&str>) -> String {
        match (self, wanted.filter(|wanted| *wanted != leader)) {
            (Self::Switchover, None) => format!("Successfully switched over to \"{leader}\""),
            (Self::Failover, None) => format!("Successfully failed over to \"{leader}\""),
            (Self::Switchover, Some(wanted)) => {
                format!("Switched over to \"{leader}\" instead of \"{wanted}\"")
            }
            (Self::Failover, Some(wanted)) => {
                format!("Failed over to \"{leader}\" instead of \"{wanted}\"")
            }
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) action: Action,
    pub(super) leader: Option<String>,
    pub(super) candidate: Option<String>,
    pub(super) scheduled_at: Option<String>,
    /// Of whom a person says that its PostgreSQL has ended.
    pub(super) fenced: Option<String>,
}

/// Status and text of a refusal.
pub(super) type Refused = (StatusCode, String);

impl Wish {
    /// Reads the body. A failover that names a leader is a switchover.
    ///
    /// # Errors
    /// 400, with what is missing or of the wrong type.
    pub(super) fn read(action: Action, body: &Map<String, Value>) -> Result<Self, Refused> {
        let text = |key: &str| match body.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(other) => {
                Err((StatusCode::BAD_REQUEST, format!("{key}: expected a text, found {other}")))
            }
        };
        let (leader, scheduled_at) = (text("leader")?, text("scheduled_at")?);
        let candidate = text("candidate")?.or(text("member")?);
        let fenced = text("fenced")?;
        let missing = match action {
            Action::Failover if candidate.is_none() => {
                Some("Failover could be performed only to a specific candidate")
            }
            Action::Switchover if leader.is_none() => {
                Some("Switchover could be performed only from a specific leader")
            }
            Action::Failover if scheduled_at.is_some() => Some("Failover can't be scheduled"),
            _ => None,
        };
        if let Some(missing) = missing {
            return Err((StatusCode::BAD_REQUEST, missing.to_owned()));
        }
        let action = if leader.is_some() { Action::Switchover } else { action };
        let scheduled_at = scheduled_at
            .map(|text| schedule::read(&text, action.word()).map(hart_clock::with_offset))
            .transpose()?;
        Ok(Self { action, leader, candidate, scheduled_at, fenced })
    }

    /// Checks it against the cluster as it is now.
    ///
    /// # Errors
    /// What speaks against it.
    pub(super) fn check(&self, cluster: &Snapshot, paused: bool) -> Result<(), Refused> {
        let bad = |line: &str| Err((StatusCode::BAD_REQUEST, line.to_owned()));
        if self.scheduled_at.is_some() && paused {
            return bad("Can't schedule switchover in the paused state");
        }
        if paused && self.candidate.is_none() {
            return bad("Switchover is possible only to a specific candidate in a paused state");
        }
        self.check_open(cluster)?;
        if self.leader.is_some() && self.leader == self.candidate {
            return bad("Switchover target and source are the same");
        }
        let leader = cluster.leader_name();
        if self.leader.is_some() && self.leader.as_deref() != leader {
            return Err((StatusCode::PRECONDITION_FAILED, "leader name does not match".to_owned()));
        }
        if self.candidate.is_some() && self.candidate.as_deref() == leader {
            let line = "failover is not possible: the candidate leads already";
            return Err((StatusCode::PRECONDITION_FAILED, line.to_owned()));
        }
        Ok(())
    }

    /// A lease without an end, whose holder has no agent to hand it over: its PostgreSQL may write.
    fn check_open(&self, cluster: &Snapshot) -> Result<(), Refused> {
        let open = cluster.lease().filter(|lease| lease.is_held() && lease.open);
        let holder = open.map(|lease| lease.holder.as_str());
        let lives = open.is_some_and(|lease| cluster.has_agent(&lease.holder, &lease.instance));
        let refuse = |line: String| Err((StatusCode::PRECONDITION_FAILED, line));
        match (holder, &self.fenced) {
            (Some(holder), None) if !lives => refuse(format!(
                "{} is not possible: {holder} was left running as primary in a pause, and may write: \
                 start its agent; or, when PostgreSQL has surely ended there, name it (hart failover \
                 --candidate NAME --fenced {holder})",
                self.action.word()
            )),
            (holder, Some(fenced)) if lives || holder != Some(fenced) => refuse(format!(
                "fenced: {fenced} is not a holder whose agent has gone and whose lease has no end"
            )),
            _ => Ok(()),
        }
    }

    /// The members that may become the leader by this wish: name and REST address.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn candidates(
        &self,
        cluster: &Snapshot,
        mode: SynchronousMode,
    ) -> Result<Vec<(String, String)>, Refused> {
        let refuse = |line: String| Err((StatusCode::PRECONDITION_FAILED, line));
        let sync = cluster.sync.as_ref().map(|sync| sync.value.standbys()).unwrap_or_default();
        let synchronous = mode != SynchronousMode::Off;
        if let Some(name) = &self.candidate {
            if self.action == Action::Switchover && synchronous && !sync.contains(name) {
                return refuse("candidate name does not match with sync_standby".to_owned());
            }
            return match cluster.member(name) {
                Some(member) => Ok(vec![(name.clone(), member.api_url.clone())]),
                None => refuse("candidate does not exists".to_owned()),
            };
        }
        let members = cluster.members.iter();
        let fit = members
            .filter(|(name, _)| Some(name.as_str()) != cluster.leader_name())
            .filter(|(name, _)| !synchronous || sync.contains(*name))
            .map(|(name, member)| (name.clone(), member.value.api_url.clone()));
        let fit: Vec<_> = fit.collect();
        let word = self.action.word();
        match (fit.is_empty(), synchronous) {
            (false, _) => Ok(fit),
            (true, true) => refuse(format!("{word} is not possible: can not find sync_standby")),
            (true, false) => refuse(format!(
                "{word} is not possible: cluster does not have members except leader"
            )),
        }
    }

    /// What is written for it.
    pub(super) fn request(&self) -> FailoverRequest {
        FailoverRequest {
            leader: self.leader.clone(),
            member: self.candidate.clone(),
            scheduled_at: self.scheduled_at.clone(),
            fenced: self.fenced.clone(),
        }
    }
}
