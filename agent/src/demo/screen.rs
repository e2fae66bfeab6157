//! The terminal: raw keys, and a picture that is drawn over the old one.

use std::io::Write;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K";
const END_OF_SCREEN: &str = "\x1b[J";

/// The terminal as it was is restored when this is dropped.
pub struct Screen {
    before: Option<Termios>,
}

impl Screen {
    /// Keys come one by one and are not shown; Ctrl-C still is a signal.
    #[must_use]
    pub fn take() -> Self {
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut raw) = before.clone() {
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            // Without it the keys need a return, and all else works.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        }
        write(&format!("{HIDE_CURSOR}{CLEAR}"));
        Self { before }
    }

    /// Draws the lines from the top.
    pub fn draw(&self, lines: &[String]) {
        let body: String = lines.iter().map(|line| format!("{line}{END_OF_LINE}\r\n")).collect();
        write(&format!("{HOME}{body}{END_OF_SCREEN}"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
        write(&format!("{SHOW_CURSOR}\r\n"));
    }
}

/// A terminal that went away is noticed by SIGHUP.
fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
