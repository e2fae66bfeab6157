//! Keys of `hart watch`, where a person sits at it.

use std::io::{ErrorKind, IsTerminal, Read};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A switchover.
    Switchover,
    /// A pause, or its end.
    Pause,
    /// The end.
    Quit,
    /// Yes, to the question that is shown.
    Yes,
    /// Any other: no.
    Other,
}

impl Key {
    /// Of what came at once: more than one byte is no key of these, but a cursor key, or something pasted.
    fn of(bytes: &[u8]) -> Self {
        let [byte] = bytes else { return Self::Other };
        match byte.to_ascii_lowercase() {
            b's' => Self::Switchover,
            b'p' => Self::Pause,
            b'q' => Self::Quit,
            b'y' => Self::Yes,
            _ => Self::Other,
        }
    }
}

/// Keys one by one; the terminal is as it was when this is dropped.
pub struct Keys {
    before: Option<Termios>,
    pressed: UnboundedReceiver<Key>,
}

impl Keys {
    /// `None`: nobody sits there.
    pub fn take() -> Option<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return None;
        }
        let (sender, pressed) = unbounded_channel();
        let keys = Self { before: tcgetattr(std::io::stdin()).ok(), pressed };
        keys.hold();
        // It ends with the process: a read of a terminal cannot be called off.
        std::thread::spawn(move || read(&sender));
        Some(keys)
    }

    /// Without it a key needs a return, and is shown.
    pub fn hold(&self) {
        if let Some(mut raw) = self.before.clone() {
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        }
    }

    /// The terminal is as it was.
    pub fn release(&self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }

    /// The next one, where there are any; `None`: the terminal has gone.
    pub async fn next(keys: &mut Option<Self>) -> Option<Key> {
        match keys {
            Some(keys) => keys.pressed.recv().await,
            None => std::future::pending().await,
        }
    }
}

fn read(sender: &UnboundedSender<Key>) {
    let mut bytes = [0; 1024];
    loop {
        let key = match std::io::stdin().lock().read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => Key::of(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if sender.send(key).is_err() {
            return;
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_is_a_yes() {
        let of = |text: &str| Key::of(text.as_bytes());
        assert_eq!(["y", "Y", "\n", "j"].map(of), [Key::Yes, Key::Yes, Key::Other, Key::Other]);
        assert_eq!(["s", "P", "q"].map(of), [Key::Switchover, Key::Pause, Key::Quit]);
    }

    /// F1 ends in a P, F4 in an S.
    #[test]
    fn what_comes_at_once_is_no_key() {
        for many in ["\x1bOP", "\x1b[A", "systemctl status", "yes", "ß", ""] {
            assert_eq!(Key::of(many.as_bytes()), Key::Other, "{many:?}");
        }
    }
}
