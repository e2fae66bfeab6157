//! The log goes to stderr, for people or as JSON lines.
//!
//! Whoever reads it may stand still: a journal whose disk hangs, a pipe that nobody empties. Then a
//! write to it hangs, and no thread of the agent may, least of all that of the lease. So lines go
//! through a queue to a thread that writes them. What finds the queue full is dropped, and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hart_config::LogType;
use tracing_subscriber::EnvFilter;

/// So many lines may wait for the reader.
const QUEUE: usize = 4096;
/// What is left of the log at the end may take so long.
const FLUSH: Duration = Duration::from_secs(2);

/// The log of this process, once it is set up.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Sets the log up. `HART_LOG_FILTER` (as in `RUST_LOG`) wins over `level`.
pub fn init(kind: LogType, level: &str) {
    let fallback = || EnvFilter::new(format!("warn,hart={level},hart_postgres={level}"));
    let filter = EnvFilter::try_from_env("HART_LOG_FILTER").unwrap_or_else(|_| fallback());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LINES.get_or_init(|| Lines::to(io::stderr())).clone())
        .with_target(false)
        .with_timer(Clock)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
    let set = match kind {
        LogType::Plain => builder.try_init(),
        LogType::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second initialisation in one process (tests) changes nothing.
    drop(set);
}

/// The last word of the process, after what is still in the queue. Where nobody reads, it is not
/// waited for.
pub fn last_word(text: &str) {
    let lines = LINES.get_or_init(|| Lines::to(io::stderr()));
    if !text.is_empty() {
        lines.say(format!("hart: {text}\n").into_bytes());
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
    fn to(target: impl Write + Send + 'static) -> Self {
        let (queue, pieces) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = dropped.clone();
        let write = move || write(target, &pieces, &count);
        // Without a thread every line is dropped: the agent does its work all the same.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(write);
        Self { queue, dropped }
    }

    fn say(&self, line: Vec<u8>) {
        if self.queue.try_send(Piece::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
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

/// A log that cannot be written is no reason to stop.
fn write(mut target: impl Write, pieces: &Receiver<Piece>, dropped: &AtomicU64) {
    while let Ok(piece) = pieces.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let at = hart_clock::wall();
            let text = format!(
                "{at:.3}  WARN {lost} lines were dropped here: nobody read this log in time\n"
            );
            let _ = target.write_all(text.as_bytes());
        }
        match piece {
            Piece::Line(line) => drop(target.write_all(&line)),
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
        let lines = Lines::to(writer);
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
        let lines = Lines::to(writer);
        lines.say(b"one\n".to_vec());
        lines.say(b"two\n".to_vec());
        lines.flush(Duration::from_secs(60));
        let mut bytes = [0; 8];
        io::Read::read_exact(&mut reader, &mut bytes).unwrap();
        assert_eq!(&bytes, b"one\ntwo\n");
    }
}
