//! Which callbacks are due, from what is seen of the server. As Patroni: a change of the role is told in
//! the place of the start that comes with it, and nothing is told before a new cluster is complete.

use std::fmt;

use hart_ha::brain::Step;
use hart_ha::command::{Command, Job};
use hart_ha::observation::{Observation, Process};
use hart_ha::time::Time;

/// The events, by Patroni's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Start,
    Stop,
    Restart,
    Reload,
    RoleChange,
}

impl Action {
    /// As in `postgresql.callbacks` and in the program's arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "on_start",
            Self::Stop => "on_stop",
            Self::Restart => "on_restart",
            Self::Reload => "on_reload",
            Self::RoleChange => "on_role_change",
        }
    }
}

/// The role that a program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the lease and takes writes.
    Primary,
    /// It is in recovery.
    Replica,
    /// It was primary, has ended by itself or by its guard, and does not hold the lease any more.
    Demoted,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Demoted => "demoted",
        })
    }
}

/// What one look shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The cluster is not complete.
    pub bootstrapping: bool,
    /// The server runs, since then.
    pub up: Option<Time>,
    /// It answers, and is in recovery or not.
    pub in_recovery: Option<bool>,
    /// This node holds the lease.
    pub holds: bool,
    /// How hart is ending it now.
    pub ending: Option<Ending>,
}

/// How hart ends the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is to stay down, or to come back as something else.
    Stop,
    /// It comes back as it was.
    Restart,
}

impl Sight {
    /// From what the brain saw and decided. An end that was decided on may be over at the next look.
    pub fn of(seen: &Observation, step: &Step) -> Self {
        let running = seen.job.iter().map(|running| ending(&running.job));
        let decided = step.decisions.iter().map(|decision| match &decision.command {
            Command::Begin(job) => ending(job),
            Command::Fence => Some(Ending::Stop),
            _ => None,
        });
        Self {
            bootstrapping: seen.local.memory.bootstrapping,
            up: match seen.local.process {
                Process::Running { since } => Some(since),
                _ => None,
            },
            in_recovery: seen.local.sql.as_ref().map(|sql| sql.in_recovery),
            holds: seen.lease.hold.is_some(),
            ending: running.chain(decided).flatten().last(),
        }
    }
}

fn ending(job: &Job) -> Option<Ending> {
    match job {
        Job::Restart => Some(Ending::Restart),
        Job::Stop => Some(Ending::Stop),
        _ => None,
    }
}

/// What has been told.
#[derive(Debug, Default)]
pub struct Teller {
    /// The role in the last call.
    told: Option<Role>,
    /// The run of the server that it was about.
    run: Option<Time>,
    was_up: bool,
    /// How hart has ended, or is ending, the server.
    ending: Option<Ending>,
}

impl Teller {
    /// The role for a call of now; none as long as nothing has been told.
    pub fn role(&self) -> Option<Role> {
        self.told
    }

    /// What is due.
    pub fn look(&mut self, sight: &Sight) -> Option<(Action, Role)> {
        if sight.up.is_some() || self.was_up {
            self.ending = sight.ending.or(self.ending);
        }
        let went_down = std::mem::replace(&mut self.was_up, sight.up.is_some()) && !self.was_up;
        match sight.up {
            None => self.down(sight, went_down),
            Some(_) if sight.bootstrapping => None,
            Some(run) => self.up(run, sight),
        }
    }

    fn down(&mut self, sight: &Sight, went_down: bool) -> Option<(Action, Role)> {
        let told = self.told?;
        if went_down && self.ending == Some(Ending::Stop) {
            return Some((Action::Stop, told));
        }
        let lost = told == Role::Primary && self.ending.is_none() && !sight.holds;
        lost.then(|| (Action::RoleChange, *self.told.insert(Role::Demoted)))
    }

    fn up(&mut self, run: Time, sight: &Sight) -> Option<(Action, Role)> {
        let role = match sight.in_recovery? {
            true => Role::Replica,
            false if sight.holds => Role::Primary,
            // It was promoted past hart, or is about to be fenced.
            false => return None,
        };
        let again = self.run.replace(run) == Some(run);
        let ended = if again { None } else { self.ending.take() };
        let action = match self.told.replace(role) {
            None => Action::Start,
            Some(before) if before != role => Action::RoleChange,
            Some(_) if again => return None,
            Some(_) if ended == Some(Ending::Restart) => Action::Restart,
            Some(_) => Action::Start,
        };
        Some((action, role))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn up(run: u64, in_recovery: bool, holds: bool) -> Sight {
        let up = Some(Time::ZERO + Duration::from_secs(run));
        Sight { up, in_recovery: Some(in_recovery), holds, ..Sight::default() }
    }

    fn ending(sight: Sight, ending: Ending) -> Sight {
        Sight { ending: Some(ending), ..sight }
    }

    /// All that is told of these looks, each of them taken twice.
    fn told(sights: &[Sight]) -> Vec<String> {
        let mut teller = Teller::default();
        let twice = sights.iter().flat_map(|sight| [sight, sight]);
        let calls = twice.filter_map(|sight| teller.look(sight));
        calls.map(|(action, role)| format!("{} {role}", action.word())).collect()
    }

    const DOWN: Sight =
        Sight { bootstrapping: false, up: None, in_recovery: None, holds: false, ending: None };

    #[test]
    fn a_new_cluster_begins_with_its_start_as_primary() {
        let bootstrapping = Sight { bootstrapping: true, ..up(1, false, true) };
        assert_eq!(told(&[DOWN, bootstrapping, up(1, false, true)]), ["on_start primary"]);
    }

    #[test]
    fn a_promotion_is_a_change_of_the_role_alone() {
        let silent = Sight { in_recovery: None, ..up(1, true, false) };
        let sights = [silent, up(1, true, false), up(1, true, true), up(1, false, true)];
        assert_eq!(told(&sights), ["on_start replica", "on_role_change primary"]);
    }

    #[test]
    fn a_demotion_is_a_stop_and_a_change_of_the_role() {
        let stopping = ending(up(1, false, true), Ending::Stop);
        let held = Sight { holds: true, ..DOWN };
        let sights = [up(1, false, true), stopping, held, DOWN, up(2, true, false)];
        let words = ["on_start primary", "on_stop primary", "on_role_change replica"];
        assert_eq!(told(&sights), words);
    }

    #[test]
    fn a_restart_is_told_once_and_a_crash_is_a_start() {
        let restarting = ending(up(1, true, false), Ending::Restart);
        let sights = [up(1, true, false), restarting, DOWN, up(2, true, false)];
        assert_eq!(told(&sights), ["on_start replica", "on_restart replica"]);
        let sights = [up(1, true, false), DOWN, up(2, true, false)];
        assert_eq!(told(&sights), ["on_start replica", "on_start replica"]);
    }

    #[test]
    fn a_primary_that_has_lost_lease_and_server_is_told() {
        let held = Sight { holds: true, ..DOWN };
        let sights = [up(1, false, true), held, DOWN, up(2, true, false)];
        let words = ["on_start primary", "on_role_change demoted", "on_role_change replica"];
        assert_eq!(told(&sights), words);
        let back = [up(1, false, true), held, Sight { holds: true, ..up(2, false, true) }];
        assert_eq!(told(&back), ["on_start primary", "on_start primary"]);
    }

    #[test]
    fn nothing_is_told_of_a_primary_without_the_lease() {
        assert_eq!(told(&[up(1, true, false), up(1, false, false)]), ["on_start replica"]);
    }
}
