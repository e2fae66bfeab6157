//! `hart template --watch`: blocking queries, so that a change is there within milliseconds and
//! nothing is asked for in vain.

use std::process::ExitCode;
use std::time::Duration;

use hart_consul::{ReadOptions, next_index};
use hart_types::Backoff;

use super::{Output, Work, namespace};
use crate::cli::cluster::Cluster;
use crate::cli::context::Context;
use crate::cli::fail::Fail;

/// The longest wait of one blocking query.
const WAIT: Duration = Duration::from_secs(30);
/// How long the answer may take beyond that.
const ANSWER: Duration = Duration::from_secs(10);
/// Leases are renewed several times a second: changes are gathered for this long.
const GATHER: Duration = Duration::from_millis(200);
/// After a failure the pause grows from the first of these to the second.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Renders whenever the cluster changes, until a signal ends the process.
///
/// # Errors
/// The first time fails.
pub(super) async fn run(context: &Context, work: &Work, output: &Output) -> Result<ExitCode, Fail> {
    let mut watch = Watch { context, work, output, index: 0, said: String::new(), retries: PAUSES };
    watch.turn().await?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
            _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
            () = watch.next() => {}
        }
    }
}

struct Watch<'a> {
    context: &'a Context,
    work: &'a Work,
    output: &'a Output,
    index: u64,
    /// The last complaint, which is not repeated.
    said: String,
    retries: Backoff,
}

impl Watch<'_> {
    async fn next(&mut self) {
        match self.turn().await {
            Ok(()) => {
                if !std::mem::take(&mut self.said).is_empty() {
                    eprintln!("hart: the file is up to date again");
                }
                self.retries.succeeded();
                tokio::time::sleep(GATHER).await;
            }
            Err(fail) => {
                let text = fail.to_string();
                if text != self.said {
                    eprintln!("hart: {text}");
                    self.said = text;
                }
                // Look afresh: the change that failed must be tried again.
                self.index = 0;
                tokio::time::sleep(self.retries.failed()).await;
            }
        }
    }

    /// Waits for a change and puts it into the file.
    async fn turn(&mut self) -> Result<(), Fail> {
        let Context { consul, scope, prefix, .. } = self.context;
        let client = consul.with_timeout(WAIT + ANSWER);
        let options = match self.index {
            0 => ReadOptions::consistent(),
            index => ReadOptions::default().wait_for(index, WAIT),
        };
        let read = client.kv().get_recurse(prefix, &options).await?;
        let unchanged = self.index != 0 && read.index == self.index;
        self.index = next_index(self.index, read.index);
        if unchanged {
            return Ok(());
        }
        let cluster = Cluster::of(scope, prefix, &read.value);
        if cluster.snapshot.members.is_empty() {
            // A Consul that was emptied is no reason to cut everybody off.
            return Err(Fail::failed(format!("cluster {scope} has no members in Consul"))
                .hint("the file stays as it is"));
        }
        let text = self.work.render(&cluster, namespace(self.context))?;
        self.output.put(&text).await.map(drop)
    }
}
