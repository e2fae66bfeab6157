//! What an answer on the command line costs: `hart list`, `why` and `events` beside `patronictl list`, in turn, on one
//! cluster of three nodes; and what they cost while a host is lost.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hart_testkit::{Cluster, Host, Options, Patroni, TempDir, hart_binary};

use crate::table::align;

/// Of Patroni's.
const SHARE: f64 = 0.15;
/// With a host lost.
const LOST: Duration = Duration::from_millis(1500);
/// For a cluster to be well.
const DEADLINE: Duration = Duration::from_secs(120);
/// Long beyond the takeover; the lost member's entry goes 10 to 20 s after its host.
const GONE: Duration = Duration::from_secs(30);

const COMMANDS: [&[&str]; 3] = [&["list", "ha"], &["why", "ha"], &["events", "ha"]];

const HEAD: [&str; 6] = ["command", "min", "median", "max", "of patronictl list", "goal reached"];

/// One row in the making.
struct Measured {
    what: String,
    times: Vec<Duration>,
}

impl Measured {
    fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), times: Vec::new() }
    }

    fn at(&self, place: impl Fn(usize) -> usize) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        times.get(place(times.len())).copied().unwrap_or_default()
    }

    fn median(&self) -> Duration {
        self.at(|count| count / 2)
    }

    fn max(&self) -> Duration {
        self.at(|count| count.saturating_sub(1))
    }

    fn row(&self, of: Option<f64>, reached: Option<bool>) -> [String; HEAD.len()] {
        let word = |reached| if reached { "yes" } else { "no" };
        [
            self.what.clone(),
            shown(self.at(|_| 0)),
            shown(self.median()),
            shown(self.max()),
            of.map_or_else(|| "-".to_owned(), |of| format!("{of:.3}")),
            reached.map_or("-", word).to_owned(),
        ]
    }
}

fn shown(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Where a command is run.
struct Place {
    host: Host,
    consul: String,
    patroni: Patroni,
}

impl Place {
    fn time(&self, program: &Path, arguments: &[&str]) -> Result<Duration> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        let begun = hart_clock::now();
        let output = self.host.output(&mut command)?;
        let took = hart_clock::now().since(begun);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {arguments:?}: {said}", program.display());
        Ok(took)
    }

    fn hart(&self, arguments: &[&str]) -> Result<Duration> {
        let all = [&["-d", self.consul.as_str()], arguments].concat();
        self.time(&hart_binary()?, &all)
    }
}

/// Prints the table. Needs a Python with venv and its package index.
///
/// # Errors
/// There is no cluster, no Python, or a command fails.
pub(crate) async fn measure(runs: usize) -> Result<()> {
    let dir = TempDir::new()?;
    let patroni = Patroni::install(dir.path())?;
    let mut cluster = Cluster::start(3, &Options::default()).await?;
    let primary = cluster.wait_healthy(3, DEADLINE).await?;
    let replicas = cluster.nodes().iter().map(|node| node.name().to_owned());
    let replica = replicas.into_iter().find(|name| *name != primary).context("three nodes")?;
    let consul = format!("consul://{}/service", cluster.consul().address());
    let mut place = Place { host: cluster.host(&primary)?, consul, patroni };
    let mut rows = whole(&place, runs)?;
    // Its cable is out, and nobody on it lives: no question of anybody's is refused, all are left without an answer.
    cluster.kill_node(&replica)?;
    rows.extend(lost(&place, runs, "a replica's host lost just now")?);
    tokio::time::sleep(GONE).await;
    rows.extend(lost(&place, runs, "a replica's host lost for 30 s")?);
    cluster.revive_node(&replica).await?;
    cluster.wait_healthy(3, DEADLINE).await?;
    place.host = cluster.host(&replica)?;
    // Everything on it goes on, in the dark.
    cluster.lab().cut(&cluster.host(&primary)?)?;
    rows.extend(lost(&place, runs, "the leader's host cut off just now")?);
    tokio::time::sleep(GONE).await;
    rows.extend(lost(&place, runs, "the leader's host cut off for 30 s")?);
    print!("{}", align(HEAD, rows.into_iter()));
    Ok(())
}

/// In turn, so that what else the machine does falls on all of them.
fn whole(place: &Place, runs: usize) -> Result<Vec<[String; HEAD.len()]>> {
    let list = ["-d", place.consul.as_str(), "list", "ha"];
    let [patronictl, python] = ["patronictl", "python"].map(|name| place.patroni.program(name));
    let mut theirs = Measured::of("patronictl list");
    let mut start = Measured::of("of it: Python with patroni.ctl, doing nothing");
    let mut ours = COMMANDS.map(|command| Measured::of(format!("hart {}", command[0])));
    // The first of each reads its program from the disk.
    for round in 0..=runs {
        let note = |row: &mut Measured, time| {
            if round > 0 {
                row.times.push(time);
            }
        };
        note(&mut theirs, place.time(&patronictl, &list)?);
        note(&mut start, place.time(&python, &["-c", "import patroni.ctl"])?);
        for (row, command) in ours.iter_mut().zip(COMMANDS) {
            note(row, place.hart(command)?);
        }
    }
    let whole = theirs.median().as_secs_f64();
    let share = |row: &Measured| row.median().as_secs_f64() / whole;
    let mut rows = vec![theirs.row(Some(1.0), None), start.row(Some(share(&start)), None)];
    rows.extend(ours.iter().map(|row| row.row(Some(share(row)), Some(share(row) <= SHARE))));
    Ok(rows)
}

fn lost(place: &Place, runs: usize, when: &str) -> Result<Vec<[String; HEAD.len()]>> {
    let mut ours = COMMANDS.map(|command| Measured::of(format!("hart {}, {when}", command[0])));
    for _ in 0..runs {
        for (row, command) in ours.iter_mut().zip(COMMANDS) {
            row.times.push(place.hart(command)?);
        }
    }
    Ok(ours.iter().map(|row| row.row(None, Some(row.max() <= LOST))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_middle_and_the_ends() {
        let times = [30, 10, 20].map(Duration::from_millis).to_vec();
        let row = Measured { times, ..Measured::of("x") }.row(Some(0.1), Some(true));
        assert_eq!(row, ["x", "0.010 s", "0.020 s", "0.030 s", "0.100", "yes"]);
    }
}
