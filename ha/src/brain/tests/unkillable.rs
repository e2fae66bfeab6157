use super::*;
use crate::observation::{Killing, RunningJob, Trouble};

fn killing(mut seen: Observation, since: u64) -> Observation {
    let left = "2 processes in uninterruptible sleep (disk)".to_owned();
    seen.local.killing = Some(Killing { since: at(since), left });
    seen
}

fn leads_at(now: u64) -> Observation {
    holding(sees("n1", now, cluster(), primary(2000)), true)
}

const ABANDON: Command = Command::Abandon { term: 5 };

/// ttl is 4 s, so the margin is 400 ms.
#[test]
fn a_lease_is_abandoned_when_the_kill_misses_its_margin() {
    let mut brain = brain("n1");
    let abandons = |got: &[Command]| got.contains(&ABANDON);
    assert!(!abandons(&commands(&mut brain, &killing(leads_at(10_399), 10_000))));
    let late = killing(leads_at(10_400), 10_000);
    let step = brain.step(&late);
    let problem = "cannot end PostgreSQL: 2 processes in uninterruptible sleep (disk); the lease is \
                   no longer renewed";
    assert_eq!(step.member.problem.as_deref(), Some(problem));
    assert_eq!((step.member.role, step.member.state), (Role::Primary, State::Stopping));
    assert_eq!(commands(&mut brain, &late), [ABANDON], "and nothing else");
    let gone = down(leads_at(11_000), true, false);
    assert_eq!(commands(&mut brain, &gone), [Command::Release], "at once when it is gone");
}

#[test]
fn whatever_the_kill_is_for_a_job_does_not_keep_the_lease() {
    for job in [Job::Stop, Job::Restart, Job::Checkpoint] {
        let mut brain = brain("n1");
        let mut seen = killing(leads_at(10_400), 10_000);
        seen.job = Some(RunningJob { job, since: at(9_000) });
        seen.shutdown = true;
        assert_eq!(commands(&mut brain, &seen), [ABANDON]);
        let mut gone = down(leads_at(11_000), true, false);
        gone.job.clone_from(&seen.job);
        assert_eq!(commands(&mut brain, &gone), [ABANDON], "the job sees it in a moment");
        gone.job = None;
        assert_eq!(commands(&mut brain, &gone), [Command::Release]);
    }
}

#[test]
fn an_abandoned_lease_is_not_taken_back_but_led_anew_when_nobody_else_does() {
    let mut brain = brain("n1");
    commands(&mut brain, &killing(leads_at(10_400), 10_000));
    let mut gone = down(sees("n1", 14_000, cluster(), standby(2000)), true, false);
    let step = brain.step(&gone);
    assert_eq!(step.phase, "waiting until the lease that was given up is over");
    assert!(step.decisions.iter().all(|d| !matches!(d.command, Command::Acquire(_))));
    gone.now = at(10_400 + FREE_MS);
    assert_eq!(brain.step(&gone).phase, "start as standby");
}

#[test]
fn a_disk_that_hangs_breaks_a_switchover_off() {
    let mut brain = brain("n1");
    let mut seen = leads_at(20_000);
    let what = "the disk under pg_wal takes no WAL: a commit hangs".to_owned();
    seen.local.trouble = Some(Trouble { since: at(9_000), what, silent: true });
    seen.job = Some(RunningJob { job: Job::Checkpoint, since: at(9_500) });
    assert_eq!(commands(&mut brain, &seen), [Command::Abort]);
    seen.store.snapshot = Some(
        asked_for(FailoverRequest { leader: Some("n1".into()), ..FailoverRequest::default() })
            .into(),
    );
    seen.job = None;
    peers(&mut seen, &[("n2", Some(answer(2000))), ("n3", Some(answer(2000)))]);
    assert_eq!(commands(&mut brain, &seen), [Command::Fence]);
}

/// Consul was slow, the deadline passed, and the kill hangs on a disk: the lease would be renewed once more, and
/// keep the others from leading.
#[test]
fn a_lease_is_not_taken_back_while_postgresql_is_being_ended() {
    let takes = |seen: &Observation| {
        let got = commands(&mut brain("n1"), seen);
        got.iter().any(|command| matches!(command, Command::Acquire(_)))
    };
    let gone = down(sees("n1", 100, cluster(), standby(2000)), true, false);
    assert!(takes(&gone));
    assert!(!takes(&killing(gone.clone(), 90)));
    assert!(!takes(&killing(gone, 0)));
}
