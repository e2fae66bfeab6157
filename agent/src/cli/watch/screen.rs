//! The screen: each picture in the place of the one before, on a page of its own, and the last one is left behind.
//! Where there is none, each picture follows the last one.

use std::io::{IsTerminal, Write, stdout};

use crate::cli::out;

/// What there is to see, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// At the top.
    pub head: Vec<String>,
    /// Oldest first: where there is no room for all, the oldest are left out.
    pub events: Vec<String>,
    /// At the end, whatever else has room: questions are there.
    pub foot: Vec<String>,
}

/// A page of its own, and back to the one before.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
/// What a terminal has that does not say.
const USUAL: (usize, usize) = (80, 24);

/// Where pictures are drawn.
pub struct Screen {
    on: bool,
    drawn: Vec<String>,
    last: Picture,
}

impl Screen {
    /// That of standard output, where it is one that pictures can be drawn on.
    pub fn take() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        let on = stdout().is_terminal() && !dumb;
        if on {
            // One that has gone is noticed with the first picture.
            let _ = write(ENTER);
        }
        Self { on, drawn: Vec::new(), last: Picture::default() }
    }

    pub fn is_terminal(&self) -> bool {
        self.on
    }

    /// Draws what was made for its width, unless it is there already.
    ///
    /// # Errors
    /// Whoever reads has gone.
    pub fn draw(&mut self, of: impl FnOnce(Option<usize>) -> Picture) -> std::io::Result<()> {
        if !self.on {
            let Picture { head, events, .. } = of(None);
            return write(&format!("{}\n\n{}\n\n", head.join("\n"), events.join("\n")));
        }
        let (columns, rows) = out::size().unwrap_or(USUAL);
        let picture = of(Some(columns));
        let lines = fit(&picture, columns, rows);
        self.last = picture;
        if lines == self.drawn {
            return Ok(());
        }
        // A line is wiped before it is written: behind a full one that would take its last character.
        let mut text = format!("\x1b[H\x1b[K{}", lines.join("\r\n\x1b[K"));
        if lines.len() < rows {
            text.push_str("\r\n\x1b[J");
        }
        self.drawn = lines;
        write(&text)
    }

    /// What is there is not what was drawn.
    pub fn forget(&mut self) {
        self.drawn.clear();
    }

    /// Gives the terminal back.
    pub fn leave(&mut self) {
        if !std::mem::take(&mut self.on) {
            return;
        }
        let (columns, rows) = out::size().unwrap_or(USUAL);
        self.last.foot.clear();
        // With room for what a shell says below it.
        let lines = fit(&self.last, columns, rows.saturating_sub(3));
        // Nobody may be there to see it.
        let _ = write(&format!("{LEAVE}{}\r\n", lines.join("\r\n")));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn write(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Lines that are not wider than the screen, and not more than it has.
fn fit(picture: &Picture, columns: usize, rows: usize) -> Vec<String> {
    let wrapped = |lines: &[String]| -> Vec<String> {
        lines.iter().flat_map(|line| wrap(line, columns)).collect()
    };
    let (mut lines, foot) = (wrapped(&picture.head), wrapped(&picture.foot));
    // An empty one before each part.
    let room = rows.saturating_sub(lines.len() + foot.len() + 2);
    let events = &picture.events[picture.events.len().saturating_sub(room)..];
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(events.iter().map(|line| cut(line, columns)));
    }
    lines.truncate(rows.saturating_sub(foot.len() + 1));
    if !foot.is_empty() {
        lines.push(String::new());
        lines.extend(foot);
    }
    lines.split_off(lines.len().saturating_sub(rows))
}

fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// At spaces; a table's line has no place to be broken.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    if line.starts_with(['|', '+']) || line.chars().count() <= columns {
        return vec![cut(line, columns)];
    }
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.last().map_or(0, |last| last.chars().count());
        let fits = last + 1 + word.chars().count() <= columns;
        match lines.last_mut() {
            Some(last) if last.is_empty() => last.push_str(word),
            Some(last) if fits => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| cut(line, columns)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn picture() -> Picture {
        Picture {
            head: lines(&["+--+", "|ab|"]),
            events: lines(&["one", "two", "three is long"]),
            foot: lines(&["Are you sure? [y/N]"]),
        }
    }

    #[test]
    fn what_has_no_room_is_the_oldest() {
        let all = fit(&picture(), 20, 24);
        assert_eq!(all[2..], ["", "one", "two", "three is long", "", "Are you sure? [y/N]"]);
        assert_eq!(fit(&picture(), 20, 6)[2..], ["", "three is long", "", "Are you sure? [y/N]"]);
        for rows in 0..9 {
            let few = fit(&picture(), 20, rows);
            assert!(few.len() <= rows, "{few:?}");
            assert!(rows == 0 || few.last().is_some_and(|line| line.contains("sure")), "{few:?}");
        }
    }

    #[test]
    fn what_is_too_wide_is_broken_or_cut() {
        let narrow = fit(&picture(), 8, 24);
        assert!(narrow.iter().all(|line| line.chars().count() <= 8), "{narrow:?}");
        assert!(narrow.ends_with(&lines(&["", "Are you", "sure?", "[y/N]"])), "{narrow:?}");
        assert!(narrow.contains(&"three i…".to_owned()));
        assert_eq!(wrap(" Left out: a", 6), ["Left", "out: a"]);
        assert_eq!(wrap("|abcdefgh|", 6), ["|abcd…"]);
        assert_eq!(wrap("", 6), [""]);
    }
}
