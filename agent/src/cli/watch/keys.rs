//! Keys of `hart watch`, where a person sits at it.

use std::io::{IsTerminal, Read};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

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
    fn of(byte: u8) -> Self {
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
    pressed: UnboundedReceiver<u8>,
}

impl Keys {
    /// `None`: nobody sits there.
    pub fn take() -> Option<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(std::io::stdin()).ok();
        if let Some(mut raw) = before.clone() {
            raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            // Without it a key needs a return.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        }
        let (sender, pressed) = unbounded_channel();
        // It ends with the process: a read of a terminal cannot be called off.
        std::thread::spawn(move || {
            for byte in std::io::stdin().lock().bytes() {
                let Ok(byte) = byte else { return };
                if sender.send(byte).is_err() {
                    return;
                }
            }
        });
        Some(Self { before, pressed })
    }

    /// The next one. Never, where the terminal has gone.
    pub async fn next(&mut self) -> Key {
        match self.pressed.recv().await {
            Some(byte) => Key::of(byte),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_is_a_yes() {
        assert_eq!(
            [b'y', b'Y', b'\n', b'j'].map(Key::of),
            [Key::Yes, Key::Yes, Key::Other, Key::Other]
        );
        assert_eq!([b's', b'P', b'q'].map(Key::of), [Key::Switchover, Key::Pause, Key::Quit]);
    }
}
