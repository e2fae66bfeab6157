//! What no decision may break, looked at once more after each, in every build: a fault in the rules is
//! to end this node, not to become a second primary.

use crate::brain::Step;
use crate::command::{Command, Job};
use crate::observation::{Observation, Process};

/// The rule that this picture or one of the decisions on it breaks, for people. `None`: none.
#[must_use]
pub fn broken(seen: &Observation, step: &Step) -> Option<String> {
    let over = seen.lease.hold.filter(|hold| seen.now >= hold.deadline);
    if let Some(hold) = over {
        return Some(format!("the lease of term {} is shown past its deadline", hold.term));
    }
    step.decisions.iter().find_map(|decision| broken_by(seen, &decision.command))
}

fn broken_by(seen: &Observation, command: &Command) -> Option<String> {
    let hold = seen.lease.hold.map(|hold| hold.term);
    match command {
        Command::Promote if hold.is_none() || seen.local.armed.map(|armed| armed.term) != hold => {
            let armed = seen.local.armed.map(|armed| armed.term);
            Some(format!(
                "a promotion under a guard armed for {armed:?}, with the lease of {hold:?}"
            ))
        }
        Command::EndSessions { .. }
            if hold.is_none() || seen.local.armed.map(|armed| armed.term) != hold =>
        {
            Some(format!("sessions ended for a promotion, with the lease of {hold:?}"))
        }
        Command::Begin(Job::StartPrimary { hold: with, .. }) if hold != Some(with.term) => {
            let term = with.term;
            Some(format!("a start as primary of term {term}, with the lease of {hold:?}"))
        }
        Command::Release | Command::HandOver(_) if may_write(seen) => {
            Some(format!("the lease of {hold:?} given up while PostgreSQL may write"))
        }
        Command::Acquire(plan) if plan.term < seen.local.memory.term => {
            let known = seen.local.memory.term;
            Some(format!("term {} taken, and {known} is known here", plan.term))
        }
        _ => None,
    }
}

fn may_write(seen: &Observation) -> bool {
    let runs = matches!(seen.local.process, Process::Running { .. });
    runs && seen.local.sql.as_ref().is_some_and(|sql| !sql.in_recovery)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::brain::{Brain, Decision};
    use crate::keeper::Hold;
    use crate::observation::Sql;
    use crate::time::Time;

    fn step(seen: &Observation, command: Command) -> Step {
        let mut step = Brain::new(settings()).step(seen);
        step.decisions = vec![Decision { command, reason: String::new() }];
        step
    }

    fn settings() -> crate::brain::Settings {
        crate::brain::Settings {
            name: "n1".into(),
            instance: "i1".into(),
            tags: Default::default(),
            ever_leads: true,
            bootstrap: Default::default(),
            conn_url: String::new(),
            api_url: String::new(),
            clone_after_failed_rewind: false,
            clone_when_diverged: false,
            clone_when_wal_is_gone: false,
            archive: false,
            restores_alone: false,
            pause: Duration::ZERO,
            beats: 0,
        }
    }

    fn holds(term: u64) -> Observation {
        let now = Time::from_millis(10_000);
        let mut seen = Observation { now, ..Observation::default() };
        seen.lease.hold = Some(Hold { term, deadline: now + Duration::from_secs(3) });
        seen.local.process = Process::Running { since: now };
        seen.local.sql = Some(Sql { in_recovery: true, ..Sql::default() });
        seen
    }

    #[test]
    fn what_is_never_to_be_is_named() {
        let mut seen = holds(5);
        let text = |seen: &Observation, command| broken(seen, &step(seen, command));
        assert!(text(&seen, Command::Promote).is_some_and(|text| text.contains("armed for None")));
        seen.local.armed = Some(Hold { term: 4, deadline: seen.now });
        assert!(text(&seen, Command::Promote).is_some(), "an earlier term");
        seen.local.armed = seen.lease.hold;
        assert_eq!(text(&seen, Command::Promote), None);
        assert_eq!(text(&seen, Command::Release), None, "it only replays");
        seen.local.sql = Some(Sql::default());
        assert!(text(&seen, Command::Release).is_some_and(|text| text.contains("may write")));
        seen.now = seen.now + Duration::from_secs(3);
        assert!(text(&seen, Command::Fence).is_some_and(|text| text.contains("past its deadline")));
    }
}
