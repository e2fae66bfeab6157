//! What is to happen at a time that people have set: a switchover by `failover` in Consul, and a restart of
//! this node, which is kept here and shown in its member entry.

use std::time::Duration;

use hart_ha::kv::Role;
use hart_ha::observation::{Due, DueAt, plan_patience};
use hart_ha::store::Snapshot;
use hart_ha::time::Time;
use hart_postgres::Probe;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::agent::Agent;

/// A time that is further away is looked at again by then.
const FAR: Duration = Duration::from_secs(3600);

/// What must be true of the node; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Its role.
    pub role: Option<Role>,
    /// Its version is lower than this (`server_version_num`).
    pub below: Option<u32>,
    /// Parameters wait for a restart.
    pub pending: bool,
}

impl Conditions {
    /// Which of them does not hold, for people.
    pub fn mismatch(
        &self,
        role: Role,
        version: Option<u32>,
        pending: bool,
    ) -> Option<&'static str> {
        if self.role.is_some_and(|wanted| wanted != role) {
            return Some("the node has another role");
        }
        if self.below.is_some_and(|below| version.is_none_or(|version| version >= below)) {
            return Some("PostgreSQL is not older than the given version");
        }
        (self.pending && !pending).then_some("no parameter waits for a restart")
    }
}

/// A restart to come.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When.
    pub at: Timestamp,
    /// Of which node.
    pub only: Conditions,
    /// As the member's entry shows it.
    pub shown: Map<String, Value>,
    /// When the server was started that is to be restarted; `None` until it answers.
    pub started: Option<String>,
}

/// What a planned restart comes to at this moment.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    NotYet,
    Now,
    Off(String),
}

/// The server as it answered last.
struct Server<'a> {
    started: &'a str,
    role: Role,
    version: u32,
    pending: bool,
}

impl<'a> Server<'a> {
    fn of(probe: &'a Probe) -> Self {
        Self {
            started: &probe.postmaster_start,
            role: if probe.in_recovery { Role::Replica } else { Role::Primary },
            version: probe.server_version,
            pending: !probe.pending_restart.is_empty(),
        }
    }
}

impl Plan {
    fn look(&self, now: Timestamp, patience: Duration, server: Option<&Server<'_>>) -> Verdict {
        if let (Some(then), Some(server)) = (&self.started, server)
            && then != server.started
        {
            let at = server.started;
            return Verdict::Off(format!("PostgreSQL has been restarted meanwhile, at {at}"));
        }
        let late = now.duration_since(self.at);
        if late.is_negative() {
            return Verdict::NotYet;
        }
        if late > SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX) {
            return Verdict::Off(format!("its time was {} s ago", late.as_secs()));
        }
        let Some(server) = server else { return Verdict::Off("PostgreSQL does not answer".into()) };
        match self.only.mismatch(server.role, Some(server.version), server.pending) {
            Some(why) => Verdict::Off(why.to_owned()),
            None => Verdict::Now,
        }
    }
}

impl Agent {
    pub(super) fn plan_restart(&mut self, mut plan: Plan) -> Result<(), String> {
        if self.planned.is_some() {
            return Err("Another restart is already scheduled".to_owned());
        }
        let answer = self.monitor.answer.borrow().clone();
        plan.started = answer.probe.map(|(_, probe)| probe.postmaster_start.clone());
        if let Some(started) = &plan.started {
            plan.shown.insert("postmaster_start_time".to_owned(), started.as_str().into());
        }
        tracing::info!("a restart of PostgreSQL is planned for {}", plan.at);
        self.known.asked.planned_restart = Some(plan.shown.clone());
        self.planned = Some(plan);
        Ok(())
    }

    pub(super) fn take_restart_back(&mut self) -> Result<(), String> {
        self.known.asked.planned_restart = None;
        match self.planned.take() {
            Some(plan) => {
                tracing::info!("the restart planned for {} was taken back", plan.at);
                Ok(())
            }
            None => Err("no restarts are scheduled".to_owned()),
        }
    }

    /// Is it time for the planned restart? Nothing planned happens in a pause.
    pub(super) fn look_at_plan(&mut self) {
        let Some(plan) = &self.planned else { return };
        let config = self.applied.clone().unwrap_or_default();
        if config.pause || self.jobs.running().is_some() {
            return;
        }
        let answer = self.monitor.answer.borrow().clone();
        let server = answer.probe.as_ref().map(|(_, probe)| Server::of(probe));
        let patience = plan_patience(config.loop_wait);
        let at = plan.at;
        match plan.look(hart_clock::wall(), patience, server.as_ref()) {
            Verdict::NotYet => return,
            Verdict::Now => {
                tracing::info!("restarting PostgreSQL: planned for {at}");
                self.known.asked.restart = true;
            }
            Verdict::Off(why) => {
                tracing::warn!("no restart of PostgreSQL as planned for {at}: {why}")
            }
        }
        self.planned = None;
        self.known.asked.planned_restart = None;
    }
}

/// When the request in `failover` is due, if it has a time.
pub fn due(snapshot: Option<&Snapshot>, now: Time, wall: Timestamp) -> Option<Due> {
    let request = snapshot?.failover.as_ref()?;
    let text = request.value.scheduled_at.as_ref()?;
    let at = match text.trim().parse::<Timestamp>() {
        Err(_) => DueAt::Unreadable,
        Ok(at) => match at.duration_since(wall) {
            left if left.is_positive() => DueAt::Then(now + left.unsigned_abs().min(FAR)),
            late => DueAt::Ago(late.unsigned_abs()),
        },
    };
    Some(Due { index: request.index, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_restart_is_due_at_its_time_of_this_server_and_under_its_conditions() {
        let plan = |only| Plan {
            at: time("2126-01-01T00:00:00Z"),
            only,
            shown: Map::new(),
            started: Some("then".to_owned()),
        };
        let any = plan(Conditions::default());
        let patience = Duration::from_secs(15);
        let look = |plan: &Plan, at: &str, started: &str| {
            let server = Server { started, role: Role::Replica, version: 150_004, pending: false };
            plan.look(time(at), patience, Some(&server))
        };
        assert_eq!(look(&any, "2125-12-31T23:59:59Z", "then"), Verdict::NotYet);
        assert_eq!(look(&any, "2126-01-01T00:00:00Z", "then"), Verdict::Now);
        assert_eq!(look(&any, "2126-01-01T00:00:15Z", "then"), Verdict::Now);
        let off = |verdict| matches!(verdict, Verdict::Off(_));
        assert!(off(look(&any, "2126-01-01T00:00:16Z", "then")), "too late");
        assert!(off(look(&any, "2125-12-31T00:00:00Z", "later")), "restarted meanwhile");
        for (only, fits) in [
            (Conditions { role: Some(Role::Replica), ..Conditions::default() }, true),
            (Conditions { role: Some(Role::Primary), ..Conditions::default() }, false),
            (Conditions { below: Some(150_005), ..Conditions::default() }, true),
            (Conditions { below: Some(150_004), ..Conditions::default() }, false),
            (Conditions { pending: true, ..Conditions::default() }, false),
        ] {
            let verdict = look(&plan(only.clone()), "2126-01-01T00:00:00Z", "then");
            assert_eq!(!off(verdict), fits, "{only:?}");
        }
    }

    #[test]
    fn a_request_is_due_by_the_wall_clock() {
        let of = |text: &str| {
            let value = format!(r#"{{"leader": "n1", "scheduled_at": {text:?}}}"#);
            let entry = hart_ha::store::RawEntry {
                key: "failover",
                value: value.as_bytes(),
                index: 7,
                session: None,
            };
            let (snapshot, _) = Snapshot::read([entry]);
            due(Some(&snapshot), Time::from_millis(5000), time("2126-01-01T00:00:00Z"))
        };
        let at = |at| Some(Due { index: 7, at });
        let soon = DueAt::Then(Time::from_millis(65_000));
        assert_eq!(of("2126-01-01T01:01:00+01:00"), at(soon));
        assert_eq!(of("2999-01-01T00:00:00Z"), at(DueAt::Then(Time::from_millis(3_605_000))));
        assert_eq!(of("2125-12-31T23:59:50Z"), at(DueAt::Ago(Duration::from_secs(10))));
        assert_eq!(of("2126-01-01T00:00:00"), at(DueAt::Unreadable), "it has no zone");
        assert_eq!(due(None, Time::from_millis(0), time("2126-01-01T00:00:00Z")), None);
    }
}
