//! `hart roll`: a rolling restart that clients do not notice.
//!
//! | file | what |
//! |---|---|
//! | `wish` | what it is for, and by which rules |
//! | `plan` | what comes next, from what the members show: pure |
//! | `look` | what the members show |
//! | `lock` | one at a time |
//! | `note` | what others read of it |
//! | `act` | one step, by the members' own REST actions |
//! | `say` | progress and questions |

mod act;
mod lock;
mod look;
mod note;
mod plan;
#[cfg(test)]
mod plan_tests;
mod say;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::cli::ask;
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use lock::Lock;
pub use note::{Note, Rolling};
use plan::{Acted, Next, Picture};
use say::Teller;
use wish::{Rules, Work};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// How long something that this run has not done may be amiss.
const AMISS: Duration = Duration::from_secs(30);

/// Arguments of `hart roll`.
#[derive(Args, Clone, Debug)]
pub struct RollArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// All whose PostgreSQL is older than this version, such as 15.15, which has to be installed on them.
    #[arg(long, value_name = "VERSION", group = "work")]
    pg_version: Option<String>,
    /// All, whatever they wait for.
    #[arg(long, group = "work")]
    all: bool,
    /// Begin anew, where an earlier --all was broken off: without this it goes on from there.
    #[arg(long, requires = "all")]
    anew: bool,
    /// Not PostgreSQL: all agents whose binary was replaced by another one.
    #[arg(long, group = "work")]
    agents: bool,
    /// So many members must be well while one is restarted; without it all others.
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Restart the primary where it is, instead of a switchover. Nobody can write meanwhile.
    #[arg(long)]
    in_place: bool,
    /// Go on also where the members have different versions of PostgreSQL installed.
    #[arg(long)]
    mixed: bool,
    /// How long a member may take until it streams again, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    timeout: u64,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    force: bool,
}

/// Deals with one member after the other, the leader last.
///
/// # Errors
/// The answer was no, another one is at it, or something is not as it has to be: where it stands, and what
/// to do.
pub async fn run(globals: &Globals, args: RollArgs) -> Result<ExitCode, Fail> {
    let work = match &args.pg_version {
        Some(text) => Work::Below(version(text)?),
        None if args.all => Work::All(BTreeMap::new()),
        None if args.agents => Work::Agents,
        None => Work::Pending,
    };
    let rules = Rules { work, keep: args.keep, in_place: args.in_place, mixed: args.mixed };
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let timeout = Duration::from_secs(args.timeout);
    let roll = Roll::begin(context, rules, timeout, args.anew).await?;
    let steps = plan::foresee(&roll.picture, &roll.rules);
    roll.teller.tell_plan(&roll.picture, &roll.rules, &steps);
    if matches!(steps.first(), Some(Next::Done)) && !args.dry_run {
        roll.forget().await?;
    }
    if args.dry_run || matches!(steps.first(), Some(Next::Done)) {
        return match steps.last() {
            Some(Next::Stop { why, remedy }) => Err(Fail::failed(why.clone()).hint(remedy.clone())),
            Some(Next::Wait { why, .. }) => {
                Err(Fail::failed(format!("it would not begin while that is so: {why}")))
            }
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    ask::confirm("Are you sure you want to do that?", args.force)?;
    roll.go().await
}

/// `15.14` as `server_version_num` has it.
fn version(text: &str) -> Result<u32, Fail> {
    crate::api::version_number(text).ok_or_else(|| {
        Fail::usage(format!("--pg-version {text}: this is no version of PostgreSQL"))
            .hint("give major and minor version, such as 15.14")
    })
}

/// A rolling restart.
struct Roll {
    context: Context,
    rules: Rules,
    timeout: Duration,
    known: BTreeSet<String>,
    cluster: Cluster,
    picture: Picture,
    acted: Acted,
    /// Who led at the last look; `None` after a switchover of this run's.
    led: Option<String>,
    teller: Teller,
    key: String,
}

impl Roll {
    async fn begin(
        context: Context,
        mut rules: Rules,
        timeout: Duration,
        anew: bool,
    ) -> Result<Self, Fail> {
        let teller = Teller::new(&context.scope);
        let key = format!("{}{}", context.prefix, note::KEY);
        let mut known = BTreeSet::new();
        let (cluster, picture) = look::look(&context, &mut known).await.map_err(Fail::failed)?;
        if let Work::All(started) = &mut rules.work {
            let left = Lock::look(&context.consul, &key).await?.map(|left| left.note);
            let left = left.filter(|note| !note.started.is_empty() && !anew);
            if let Some(Note { by, since, .. }) = &left {
                teller.note(&format!(
                    "going on with what {by} began at {since}: who was started since then is done (--anew begins \
                     anew)"
                ));
            }
            *started = left.map_or_else(|| started_of(&picture), |note| note.started);
        }
        let (acted, led) = (Acted::new(), picture.leader.clone());
        Ok(Self { context, rules, timeout, known, cluster, picture, acted, led, teller, key })
    }

    /// Nothing is left to be done: what one that was stopped has left behind goes.
    async fn forget(&self) -> Result<(), Fail> {
        let consul = &self.context.consul;
        let left = Lock::look(consul, &self.key).await?;
        if left.is_some_and(|left| !left.locked) {
            Lock::take(consul, &self.key, &self.begun()).await?.done().await;
        }
        Ok(())
    }

    fn begun(&self) -> Note {
        let started = match &self.rules.work {
            Work::All(started) => started.clone(),
            _ => BTreeMap::new(),
        };
        let since = hart_clock::wall().to_string();
        Note { by: who(), since, work: self.rules.work.options(), started, ..Note::default() }
    }

    /// Takes the lock, and gives it back, whatever becomes of it.
    async fn go(mut self) -> Result<ExitCode, Fail> {
        let mut note = self.begun();
        let lock = Lock::take(&self.context.consul, &self.key, &note).await?;
        let ended = tokio::select! {
            ended = self.steps(&lock, &mut note) => ended,
            name = interrupted() => {
                Err((format!("ended by {name}"), "what a member has begun it ends by itself".to_owned()))
            }
        };
        self.teller.quiet();
        match ended {
            Ok(()) => {
                lock.done().await;
                self.teller.line(&format!("done: {}", self.rules.work.title()));
                Ok(ExitCode::SUCCESS)
            }
            Err((why, remedy)) => {
                note.stopped.clone_from(&why);
                // Who cannot be told finds the step at which it ended.
                let _ = lock.tell(&note).await;
                lock.release().await;
                let standing = say::standing(&self.picture, &self.rules.work);
                let again = self.again(&remedy);
                Err(Fail::failed(format!("stopped: {why}")).hint(format!(
                    "{remedy}\n  where it stands: {standing}\n  to go on from there, from any node: {again}"
                )))
            }
        }
    }

    fn again(&self, remedy: &str) -> String {
        let options = self.rules.to_go_on(remedy);
        format!("hart roll {} {options}", self.context.scope).trim().to_owned()
    }

    /// Until everything is done, or the first doubt.
    async fn steps(&mut self, lock: &Lock, note: &mut Note) -> Result<(), (String, String)> {
        let mut since = Instant::now();
        loop {
            let step = match look::look(&self.context, &mut self.known).await {
                Ok((cluster, picture)) => {
                    (self.cluster, self.picture) = (cluster, picture);
                    self.same_leader()?;
                    plan::next(&self.picture, &self.rules, &self.acted)
                }
                Err(why) => Next::Wait { why, ours: false },
            };
            match step {
                Next::Done => return Ok(()),
                Next::Stop { why, remedy } => return Err((why, remedy)),
                Next::Wait { why, ours } => {
                    let most = if ours { self.timeout } else { AMISS };
                    if since.elapsed() >= most {
                        let remedy =
                            "see `hart why`, `hart events` and the member's log".to_owned();
                        return Err((format!("for {} s: {why}", most.as_secs()), remedy));
                    }
                    self.teller.wait(&why);
                    tokio::time::sleep(LOOK).await;
                }
                step => {
                    note.at = say::doing(&step).unwrap_or_default();
                    let hint = "see that Consul is there".to_owned();
                    lock.tell(note).await.map_err(|why| (why, hint))?;
                    self.act(&step).await?;
                    since = Instant::now();
                }
            }
        }
    }
}

impl Roll {
    /// A failover in the middle is for people to look at.
    fn same_leader(&mut self) -> Result<(), (String, String)> {
        let now = self.picture.leader.clone();
        if let (Some(then), Some(now)) = (&self.led, &now)
            && then != now
        {
            let why = format!("{now} leads, and {then} did: that was none of this run's doing");
            return Err((why, "see `hart events` for what happened".to_owned()));
        }
        self.led = now.or(self.led.take());
        Ok(())
    }
}

fn started_of(picture: &Picture) -> BTreeMap<String, String> {
    let of = |seen: &plan::Seen| Some((seen.name.clone(), seen.started.clone()?));
    picture.members.iter().filter_map(of).collect()
}

/// `postgres@db1 (process 123)`
fn who() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!(
        "{}@{} (process {})",
        user.unwrap_or_else(|_| "somebody".to_owned()),
        host.unwrap_or_else(|| "?".to_owned()),
        std::process::id()
    )
}

/// The terminal has gone, or somebody has had enough.
async fn interrupted() -> &'static str {
    let mut kinds = Vec::new();
    for (kind, name) in [
        (SignalKind::hangup(), "SIGHUP: its terminal has gone"),
        (SignalKind::interrupt(), "SIGINT"),
        (SignalKind::terminate(), "SIGTERM"),
    ] {
        if let Ok(stream) = signal(kind) {
            kinds.push((stream, name));
        }
    }
    std::future::poll_fn(|context| {
        for (stream, name) in &mut kinds {
            if stream.poll_recv(context).is_ready() {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    })
    .await
}
