//! `hart watch`: the cluster as it changes. Consul tells of each change (blocking queries); the members are asked
//! then, and now and again for what they alone know: who is lost, how much is left of the lease.

mod deed;
mod keys;

use std::future::pending;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hart_consul::{KvPair, ReadOptions, next_index};
use hart_types::Chain;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::events::Tail;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use crate::cli::list;
use deed::Deed;
use keys::{Key, Keys};

/// How long Consul may keep a question open: a lost member changes no key for longer than that.
const WAIT: Duration = Duration::from_secs(5);
/// So long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(7);
/// Renewals come every ttl/4: the members are not asked more often than this for one.
const APART: Duration = Duration::from_millis(500);
/// At a terminal.
const KEYS: &str = "s: switchover   p: pause or resume   q: quit";
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `hart watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// So many of the last lines of the members' journals.
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "12")]
    events: usize,
}

/// Draws until it is ended (q, Ctrl-C), or the reader goes away.
///
/// # Errors
/// The cluster cannot be read at the first time.
pub async fn run(globals: &Globals, args: WatchArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let cluster = context.cluster().await?;
    let mut live = Live { cluster, tail: Tail::new(args.events), ..Live::default() };
    let mut keys = Keys::take();
    let mut work: Option<Pin<Box<dyn Future<Output = String> + '_>>> = None;
    loop {
        let next = Instant::now() + APART;
        if list::show(&live.picture(&context, keys.is_some()).await) != ExitCode::SUCCESS {
            return Ok(ExitCode::SUCCESS);
        }
        let pressed = async {
            match &mut keys {
                Some(keys) => keys.next().await,
                None => pending().await,
            }
        };
        let finished = async {
            match &mut work {
                Some(work) => work.await,
                None => pending().await,
            }
        };
        tokio::select! {
            change = changed(&context, next, live.index) => live.take(&context, change),
            key = pressed => match live.press(key) {
                Pressed::Quit => return Ok(ExitCode::SUCCESS),
                // One after the other: a switchover that is under way is not hurried by another one.
                Pressed::Do(deed) if work.is_none() => {
                    work = Some(Box::pin(deed.done(&context, live.cluster.clone())));
                }
                _ => {}
            },
            said = finished => {
                work = None;
                live.said = Some(said);
            }
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// What Consul told, or did not.
type Change = Result<(u64, Vec<KvPair>), String>;

/// Waits until Consul tells of a change, or has been asked for long enough.
async fn changed(context: &Context, next: Instant, index: u64) -> Change {
    sleep_until(next).await;
    let options = ReadOptions::consistent().wait_for(index, WAIT);
    let kv = context.consul.kv();
    match timeout(PATIENCE, kv.get_recurse(&context.prefix, &options)).await {
        Ok(Ok(read)) => Ok((next_index(index, read.index), read.value)),
        Ok(Err(error)) => {
            sleep(PAUSE).await;
            Err(format!("Consul does not answer: {}", Chain(&error)))
        }
        Err(_) => Err(format!("Consul does not answer within {} s", PATIENCE.as_secs())),
    }
}

/// What a key came to.
enum Pressed {
    Quit,
    Do(Deed),
    Nothing,
}

/// What is shown.
#[derive(Default)]
struct Live {
    cluster: Cluster,
    tail: Tail,
    index: u64,
    /// What is shown is the past then, but for what the members say.
    trouble: Option<String>,
    asked: Option<Deed>,
    said: Option<String>,
}

impl Live {
    fn take(&mut self, context: &Context, change: Change) {
        match change {
            Ok((index, pairs)) => {
                self.index = index;
                self.cluster = Cluster::of(&context.scope, &context.prefix, &pairs);
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    fn press(&mut self, key: Key) -> Pressed {
        let asked = self.asked.take();
        self.said = None;
        match (asked, key) {
            (Some(deed), Key::Yes) => {
                self.said = Some("under way …".to_owned());
                Pressed::Do(deed)
            }
            (_, Key::Quit) => Pressed::Quit,
            (_, key) => {
                self.asked = Deed::of(key, &self.cluster);
                Pressed::Nothing
            }
        }
    }

    async fn picture(&mut self, context: &Context, keys: bool) -> String {
        let heard = list::heard::Heard::ask(context, &self.cluster).await;
        self.tail.update(&context.rest, &self.cluster).await;
        let mut lines = vec![list::local_time()];
        lines.extend(self.trouble.clone());
        lines.push(list::with_lease(&self.cluster, &heard));
        lines.push(String::new());
        lines.extend(self.tail.lines().iter().cloned());
        if keys {
            lines.push(String::new());
            lines.extend(self.said.clone());
            let question = self.asked.map(|deed| deed.question(&self.cluster));
            lines.push(question.unwrap_or_else(|| KEYS.to_owned()));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    /// Nothing is done without a yes to the question that is shown.
    #[test]
    fn a_key_asks_and_only_yes_does_it() {
        let mut live = Live { cluster: made(), ..Live::default() };
        assert!(matches!(live.press(Key::Yes), Pressed::Nothing), "there was no question");
        assert!(matches!(live.press(Key::Switchover), Pressed::Nothing));
        assert!(matches!(live.press(Key::Other), Pressed::Nothing));
        assert!(matches!(live.press(Key::Yes), Pressed::Nothing), "it was answered with no");
        live.press(Key::Pause);
        assert!(matches!(live.press(Key::Yes), Pressed::Do(Deed::Pause)));
        assert!(matches!(live.press(Key::Yes), Pressed::Nothing), "once");
        assert!(matches!(live.press(Key::Quit), Pressed::Quit));
    }
}
