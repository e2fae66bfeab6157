//! What Consul tells, and what the members say. Neither waits for the other, nor for whoever presses keys.

use std::time::Duration;

use hart_consul::{KvPair, ReadOptions, next_index};
use hart_types::Chain;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::events::Tail;
use crate::cli::list::heard::Heard;

/// How long Consul may keep a question open: a lost member changes no key for longer than that.
const WAIT: Duration = Duration::from_secs(5);
/// So long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(7);
/// Renewals come every ttl/4: nobody is asked more often than this for one.
pub const APART: Duration = Duration::from_millis(500);
/// After an error.
const PAUSE: Duration = Duration::from_secs(1);

/// What Consul told, or did not.
pub type Change = Result<(u64, Vec<KvPair>), String>;

/// Waits until Consul tells of a change, or has been asked for long enough.
pub async fn changed(context: &Context, next: Instant, index: u64) -> Change {
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

/// What is known before the members are asked.
pub struct Known {
    /// By Consul's last word.
    pub cluster: Cluster,
    /// Consul is away.
    pub alone: bool,
}

/// What the members said.
pub struct Found {
    /// The cluster by their words, where Consul is away and the member of this machine answers.
    pub cluster: Option<Cluster>,
    /// Each one's answer.
    pub heard: Heard,
    /// The journals.
    pub tail: Tail,
}

/// Asks all members, for how they are and for what is new in their journals.
pub async fn gather(context: &Context, known: Known, mut tail: Tail) -> Found {
    let told = if known.alone { context.members_word().await } else { None };
    let cluster = told.as_ref().unwrap_or(&known.cluster);
    let (heard, ()) =
        tokio::join!(Heard::ask(context, cluster), tail.update(&context.rest, cluster));
    Found { cluster: told, heard, tail }
}
