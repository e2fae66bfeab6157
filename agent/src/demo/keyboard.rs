//! Keys, as they are pressed.

use std::io::Read;

use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// kill -9 the primary's postmaster.
    Kill,
    /// Lose the whole primary node.
    Lose,
    /// Bring lost nodes back.
    Back,
    /// Switch over.
    Switchover,
    /// End.
    Quit,
}

impl Key {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte.to_ascii_lowercase() {
            b'k' => Self::Kill,
            b'n' => Self::Lose,
            b'b' => Self::Back,
            b's' => Self::Switchover,
            b'q' => Self::Quit,
            _ => return None,
        })
    }
}

/// Listens on a thread of its own, which ends with the process: a read of a terminal cannot be
/// called off.
#[must_use]
pub fn listen() -> mpsc::UnboundedReceiver<Key> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for byte in std::io::stdin().lock().bytes() {
            let Ok(byte) = byte else { return };
            if let Some(key) = Key::of(byte)
                && sender.send(key).is_err()
            {
                return;
            }
        }
    });
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_keys_do_something() {
        assert_eq!(Key::of(b'K'), Some(Key::Kill));
        assert_eq!(Key::of(b'q'), Some(Key::Quit));
        assert_eq!(Key::of(b'x'), None);
    }
}
