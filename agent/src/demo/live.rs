//! The live view, and what it does at the press of a key.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::actions::{self, Switchover};
use super::cluster::Demo;
use super::keyboard::{self, Key};
use super::render::{Frame, lines, psql};
use super::screen::Screen;
use crate::cli::{Dsn, DsnFormat, Fail, RoleFilter, Unread};

/// Between two looks at what changed.
const LOOK: Duration = Duration::from_millis(50);
/// So many looks to a picture.
const REDRAW: u32 = 10;
/// How long the leader may take to say how much of its lease is left.
const ANSWER: Duration = Duration::from_millis(200);
const EVENTS: usize = 12;
const SECONDS: usize = 30;

/// Draws until `q`.
///
/// # Errors
/// None so far: what goes wrong is shown among the events.
pub async fn run(demo: &mut Demo) -> Result<ExitCode, Fail> {
    demo.timeline.silence(true);
    let screen = Screen::take();
    let mut keys = keyboard::listen();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = None;
    let mut looks = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => looks += 1,
            // Once the keyboard is gone, the picture goes on.
            Some(key) = keys.recv() => match key {
                Key::Quit => return Ok(ExitCode::SUCCESS),
                key => {
                    press(demo, key, &mut asked).await;
                    looks = REDRAW;
                }
            },
        }
        if let Some(switchover) = asked.take_if(|asked| asked.is_finished()) {
            note_answer(demo, switchover).await;
        }
        demo.note_changes();
        if looks >= REDRAW {
            looks = 0;
            let left = lease_left(demo).await;
            let named = demo.names.primary().await;
            screen.draw(&lines(&demo.snapshot(), &frame(demo, left, named)));
        }
    }
}

/// Without a terminal: one line per change, until a signal comes.
///
/// # Errors
/// An agent ends by itself.
pub async fn print_changes(demo: &mut Demo) -> Result<ExitCode, Fail> {
    println!("in another terminal: {} list", command(demo));
    println!("{}", psql(&dsn(demo)));
    println!("{}", demo.names.dig());
    loop {
        let none = |_: &mut Demo| None::<std::convert::Infallible>;
        // A year of waiting ends by a signal, or by an agent that ended.
        demo.wait("a signal", Duration::from_secs(31_536_000), none).await?;
    }
}

async fn press(demo: &mut Demo, key: Key, asked: &mut Option<Switchover>) {
    let done = match key {
        Key::Kill => actions::kill_postmaster(demo).map(drop),
        Key::Lose => actions::lose_primary(demo).await.map(drop),
        Key::Back => actions::bring_back(demo).map(|back| {
            if back.is_empty() {
                demo.timeline.add("no node is lost");
            }
        }),
        Key::Switchover if asked.is_some() => Err(Fail::failed("a switchover is under way")),
        Key::Switchover => actions::switchover(demo).map(|switchover| *asked = Some(switchover)),
        Key::Quit => Ok(()),
    };
    if let Err(fail) = done {
        demo.timeline.add(fail.to_string());
    }
}

async fn note_answer(demo: &mut Demo, switchover: Switchover) {
    let text = match switchover.await {
        Ok(Ok(text)) => format!("switchover: {text}"),
        Ok(Err(text)) => format!("switchover failed: {text}"),
        Err(error) => format!("switchover failed: {error}"),
    };
    demo.timeline.add(text);
}

async fn lease_left(demo: &mut Demo) -> Option<u64> {
    let leader = demo.leader().ok()?;
    if !leader.is_up() {
        return None;
    }
    let url = leader.url("patroni");
    let status = demo.rest.get_status(&url, ANSWER).await.ok()?;
    status.hart?.word.lease.map(|lease| lease.left_ms)
}

fn frame(demo: &mut Demo, lease_left_ms: Option<u64>, named: Option<String>) -> Frame {
    let now = hart_clock::now();
    let nodes = demo.nodes.iter_mut().map(|n| (n.name.clone(), n.port, n.is_up())).collect();
    let mut frame = Frame {
        nodes,
        lease_left_ms,
        longest_gap: demo.longest_gap(),
        acknowledged: demo.acknowledged(),
        events: demo.timeline.last(EVENTS),
        dsn: dsn(demo),
        named,
        dig: demo.names.dig(),
        command: command(demo),
        bold: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        ..Frame::default()
    };
    if let Some(writing) = &demo.writing {
        frame.per_second = writing.ledger().per_second(now, SECONDS);
        frame.silence = writing.ledger().silence(now);
    }
    frame
}

/// The string with all hosts, as `hart dsn` has it.
pub fn dsn(demo: &Demo) -> String {
    Dsn {
        hosts: demo.nodes.iter().map(|node| ("127.0.0.1".to_owned(), node.port)).collect(),
        role: RoleFilter::Primary,
        dbname: "postgres".to_owned(),
        username: Some("postgres".to_owned()),
        libpq: 14,
        // As the nodes have it.
        unread: Unread::Lease(Duration::from_secs(3)),
    }
    .render(DsnFormat::Libpq)
}

fn command(demo: &Demo) -> String {
    let own = std::env::args().next().unwrap_or_else(|| "hart".to_owned());
    format!("{own} -d {}", demo.shared.consul)
}
