//! The log goes to standard error or to files, for people or as JSON lines.
//!
//! Whoever reads it may stand still: a journal whose disk hangs, a pipe that nobody empties. Then a
//! write to it hangs, and no thread of the agent may, least of all that of the lease. So lines go
//! through a queue to a thread that writes them. What finds the queue full is dropped, and counted.

mod files;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hart_config::{Log, LogLevel, LogType};
use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;

use files::{How, LogFiles};

/// So many lines may wait for the reader.
const QUEUE: usize = 4096;
/// What is left of the log at the end may take so long.
const FLUSH: Duration = Duration::from_secs(2);

/// The log of this process, once it is set up.
static LINES: OnceLock<Lines> = OnceLock::new();
/// Changes the level while the log is in use.
static LEVEL: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();
/// What the command line asked for, which wins over the configuration, also when that is read again.
static ASKED: OnceLock<Asked> = OnceLock::new();

/// As in `RUST_LOG`; it wins over the level.
const FILTER: &str = "HART_LOG_FILTER";
/// What lines as JSON have by themselves.
const OWN_FIELDS: &[&str] = &["timestamp", "level", "message", "target", "span", "spans"];

/// What the command line says of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The form of lines.
    pub kind: Option<LogType>,
    /// The least level.
    pub level: Option<LogLevel>,
}

/// Sets the log of an agent up, on standard error until [`renew`].
pub fn begin(config: &Log, asked: Asked) {
    let asked = ASKED.get_or_init(|| asked);
    init(asked.kind.unwrap_or(config.kind), asked.level.unwrap_or(config.level).as_str());
}

/// The configuration as it is now: the level, where lines go, and what each of them has. The form of lines
/// stays as it was at the start.
pub fn renew(config: &Log) {
    let asked = ASKED.get().copied().unwrap_or_default();
    if let Some(change) = LEVEL.get().filter(|_| std::env::var_os(FILTER).is_none()) {
        change(by_level(asked.level.unwrap_or(config.level).as_str()));
    }
    let json = asked.kind.unwrap_or(config.kind) == LogType::Json;
    let fields = if json { rendered(&config.static_fields) } else { String::new() };
    let files = config.dir.clone().map(|dir| How {
        dir,
        size: config.file_size,
        kept: config.file_num,
        mode: config.mode,
    });
    let lines = LINES.get_or_init(|| Lines::to(Target::stderr()));
    let out = match files {
        Some(how) => Out::Files(LogFiles::new(how, io::stderr())),
        None => Out::Stream(Box::new(io::stderr())),
    };
    lines.direct(Target { out, fields });
}

/// At the beginning of an object: `"key":value,`.
fn rendered(fields: &Map<String, Value>) -> String {
    let own = |(name, _): &(&String, &Value)| !OWN_FIELDS.contains(&name.as_str());
    let field =
        |(name, value): (&String, &Value)| format!("{}:{value},", Value::from(name.as_str()));
    fields.iter().filter(own).map(field).collect()
}

fn by_level(level: &str) -> EnvFilter {
    EnvFilter::new(format!("warn,hart={level},hart_postgres={level}"))
}

/// A line that the log itself has to say.
fn own_line(text: &str) -> String {
    format!("{:.3}  WARN {text}\n", hart_clock::wall())
}

/// Sets the log up on standard error. `HART_LOG_FILTER` wins over `level`.
pub fn init(kind: LogType, level: &str) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| by_level(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LINES.get_or_init(|| Lines::to(Target::stderr())).clone())
        .with_target(false)
        .with_timer(Clock)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    // A second initialisation in one process (tests) changes nothing.
    let _ = match kind {
        LogType::Plain => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| note_level(move |filter| drop(handle.reload(filter))))
        }
        LogType::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| note_level(move |filter| drop(handle.reload(filter))))
        }
    };
}

fn note_level(change: impl Fn(EnvFilter) + Send + Sync + 'static) {
    let _ = LEVEL.set(Box::new(change));
}

/// The last word of the process, also on standard error where the log is in files, after what is still in the queue. Where nobody reads, it is not
/// waited for.
pub fn last_word(text: &str) {
    let lines = LINES.get_or_init(|| Lines::to(Target::stderr()));
    if !text.is_empty() {
        lines.send(Piece::Loud(format!("hart: {text}\n").into_bytes()));
    }
    lines.flush(FLUSH);
}

/// Writes what is still in the queue, at the end of a process.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH);
    }
}

/// What goes through the queue.
enum Piece {
    Line(Vec<u8>),
    /// Also for standard error.
    Loud(Vec<u8>),
    /// From here on lines go there.
    To(Target),
    /// Everything before it is written when this is dropped.
    Mark(SyncSender<()>),
}

/// The beginning of the queue; clones share it.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Piece>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    fn to(target: Target) -> Self {
        let (queue, pieces) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        let write = move || write(target, &pieces, &count);
        // Without a thread every line is dropped: the agent does its work all the same.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(write);
        Self { queue, dropped }
    }

    fn say(&self, line: Vec<u8>) {
        self.send(Piece::Line(line));
    }

    fn send(&self, piece: Piece) {
        if self.queue.try_send(piece).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Nobody is waited for: where the queue is full, a thread does.
    fn direct(&self, target: Target) {
        if let Err(TrySendError::Full(piece)) = self.queue.try_send(Piece::To(target)) {
            let queue = self.queue.clone();
            let waits = move || drop(queue.send(piece));
            let _ = std::thread::Builder::new().name("log to".to_owned()).spawn(waits);
        }
    }

    fn flush(&self, within: Duration) {
        let (mark, written) = sync_channel(0);
        if self.queue.try_send(Piece::Mark(mark)).is_ok() {
            let _ = written.recv_timeout(within);
        }
    }
}

/// One call is one line, or more.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where lines go.
struct Target {
    out: Out,
    /// Further fields of lines as JSON: `"key":value,`.
    fields: String,
}

enum Out {
    Files(LogFiles<io::Stderr>),
    Stream(Box<dyn Write + Send>),
}

impl Target {
    fn stderr() -> Self {
        Self::stream(io::stderr())
    }

    fn stream(stream: impl Write + Send + 'static) -> Self {
        Self { out: Out::Stream(Box::new(stream)), fields: String::new() }
    }

    /// In one call, so that nothing comes in between.
    fn line(&mut self, line: &[u8]) {
        let whole = match line.strip_prefix(b"{") {
            Some(rest) if !self.fields.is_empty() => &[b"{", self.fields.as_bytes(), rest].concat(),
            _ => line,
        };
        let _ = match &mut self.out {
            Out::Files(files) => files.write_all(whole),
            Out::Stream(stream) => stream.write_all(whole),
        };
    }
}

/// A log that cannot be written is no reason to stop.
fn write(mut target: Target, pieces: &Receiver<Piece>, dropped: &AtomicU64) {
    while let Ok(piece) = pieces.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines were dropped here: nobody read this log in time");
            target.line(own_line(&text).as_bytes());
        }
        match piece {
            Piece::Line(line) => target.line(&line),
            Piece::Loud(line) => {
                target.line(&line);
                if matches!(target.out, Out::Files(_)) {
                    let _ = io::stderr().write_all(&line);
                }
            }
            Piece::To(new) => target = new,
            Piece::Mark(written) => drop(written),
        }
    }
}

struct Clock;

impl tracing_subscriber::fmt::time::FormatTime for Clock {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", hart_clock::wall())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    /// With blocking writes this does not come to an end.
    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::to(Target::stream(writer));
        for number in 0..3 * QUEUE {
            lines.clone().write_all(format!("{number:>100}\n").as_bytes()).unwrap();
        }
        lines.flush(Duration::from_millis(10));
        assert!(lines.dropped.load(Ordering::Relaxed) > 0);
        let mut read = BufReader::new(reader).lines().map(Result::unwrap);
        // The reader goes on, and what comes next is preceded by the number of what is missing.
        let told = read.by_ref().find(|line| line.contains("lines were dropped here"));
        assert!(told.is_some_and(|line| line.contains("WARN")));
    }

    #[test]
    fn what_was_said_before_the_end_is_written() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::to(Target::stream(writer));
        lines.say(b"one\n".to_vec());
        lines.say(b"two\n".to_vec());
        lines.flush(Duration::from_secs(60));
        let mut bytes = [0; 8];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        assert_eq!(&bytes, b"one\ntwo\n");
    }

    #[test]
    fn static_fields_stand_first_and_replace_nothing() {
        let fields = r#"{"app":"patroni","level":"x","n":7,"q\"":null}"#;
        let fields = rendered(&serde_json::from_str(fields).unwrap());
        let (mut reader, writer) = io::pipe().unwrap();
        let mut target = Target { fields, ..Target::stream(writer) };
        target.line(b"{\"level\":\"INFO\"}\n");
        target.line(b"no JSON\n");
        drop(target);
        let mut read = String::new();
        io::Read::read_to_string(&mut reader, &mut read).unwrap();
        let expected = "{\"app\":\"patroni\",\"n\":7,\"q\\\"\":null,\"level\":\"INFO\"}\nno JSON\n";
        assert_eq!(read, expected);
    }
}
