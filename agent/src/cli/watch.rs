//! `hart watch`: the cluster as it changes. Consul tells of each change (blocking queries); the members are asked
//! then, and now and again for what they alone know: who is lost, how much is left of the lease.
//!
//! | file | what |
//! |---|---|
//! | `look` | what Consul tells, and what the members say |
//! | `live` | what is shown of it, and what keys come to |
//! | `deed` | what is done after a yes |
//! | `screen`, `keys`, `signals` | the terminal |

mod deed;
mod keys;
mod live;
mod look;
mod screen;
mod signals;

use std::future::pending;
use std::pin::Pin;
use std::process::ExitCode;

use clap::Args;
use tokio::time::{Instant, sleep_until};

use crate::cli::context::Context;
use crate::cli::events::Tail;
use crate::cli::fail::Fail;
use crate::cli::globals::Globals;
use keys::Keys;
use live::{Live, Pressed};
use look::{APART, changed, gather};
use screen::Screen;
use signals::{Signal, Signals};

/// Arguments of `hart watch`.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// The cluster (scope); without it that of the configuration, or the only one in Consul.
    cluster: Option<String>,
    /// So many of the last lines of the members' journals, where the terminal has room for them.
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "12")]
    events: usize,
}

/// Draws until it is ended (q, Ctrl-C), or the reader or the terminal goes away.
///
/// # Errors
/// The cluster cannot be read at the first time.
pub async fn run(globals: &Globals, args: WatchArgs) -> Result<ExitCode, Fail> {
    let context = Context::new(globals, args.cluster.as_deref()).await?;
    let mut live = Live::new(context.cluster().await?, &context.prefix);
    let mut tail = Some(Tail::new(args.events));
    let mut screen = Screen::take();
    let mut keys = Keys::take();
    let mut signals = Signals::new();
    let mut change: Work<_> = Some(Box::pin(changed(&context, Instant::now(), 0)));
    let mut gathering: Work<_> = None;
    let mut deed: Work<String> = None;
    loop {
        if let Some(tail) = tail.take_if(|_| live.is_due()) {
            gathering = Some(Box::pin(gather(&context, live.known(), tail)));
        }
        if live.wants_drawing(screen.is_terminal())
            && screen.draw(|width| live.picture(width, keys.is_some())).is_err()
        {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            told = end_of(&mut change) => {
                live.told(told);
                change = Some(Box::pin(changed(&context, Instant::now() + APART, live.index())));
            }
            found = end_of(&mut gathering) => tail = Some(live.found(found)),
            () = sleep_until(live.due()), if tail.is_some() => {}
            said = end_of(&mut deed) => live.said(said),
            key = Keys::next(&mut keys) => match key.map(|key| live.press(key, Instant::now())) {
                None | Some(Pressed::Quit) => return Ok(ExitCode::SUCCESS),
                // One after the other: a switchover that is under way is not hurried by another one.
                Some(Pressed::Do(what)) if deed.is_none() => {
                    deed = Some(Box::pin(what.done(&context, live.cluster())));
                }
                Some(_) => {}
            },
            signal = signals.next() => match signal {
                Signal::End => return Ok(ExitCode::SUCCESS),
                Signal::Resized => screen.forget(),
                Signal::Stop => {
                    screen.leave();
                    keys.iter().for_each(Keys::release);
                    signals::stop();
                    keys.iter().for_each(Keys::hold);
                    screen = Screen::take();
                }
            },
        }
    }
}

/// Something that is under way, or nothing.
type Work<'a, T> = Option<Pin<Box<dyn Future<Output = T> + 'a>>>;

/// Waits for its end; nothing never ends.
async fn end_of<T>(work: &mut Work<'_, T>) -> T {
    let Some(under_way) = work else { return pending().await };
    let done = under_way.await;
    *work = None;
    done
}
