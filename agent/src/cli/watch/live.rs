//! What is shown, and what keys come to.

use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::time::Instant;

use super::deed::Deed;
use super::keys::Key;
use super::look::{APART, Change, Found, Known};
use super::screen::Picture;
use crate::cli::cluster::Cluster;
use crate::cli::events::{Tail, short};
use crate::cli::list;
use crate::cli::list::heard::Heard;
use crate::journal::Entry;

/// At a terminal.
const KEYS: &str = "s: switchover   p: pause or resume   q: quit";
/// The members are asked at least so often.
const EVERY: Duration = Duration::from_secs(5);
/// A yes that comes sooner is not one to the question: somebody types a word into the wrong window.
const READ: Duration = Duration::from_millis(500);

/// What a key came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Pressed {
    /// The end.
    Quit,
    /// This was asked for, and the answer was yes.
    Do(Deed),
    /// Something else is shown at most.
    Nothing,
}

/// What is shown.
pub struct Live {
    cluster: Cluster,
    prefix: String,
    heard: Option<Heard>,
    events: Vec<Entry>,
    index: u64,
    /// What is shown is the past then, but for what the members say.
    trouble: Option<String>,
    asked: Option<(Deed, Instant)>,
    said: Option<String>,
    due: Instant,
    fresh: bool,
}

impl Live {
    /// Before anybody was asked.
    pub fn new(cluster: Cluster, prefix: &str) -> Self {
        Self {
            cluster,
            prefix: prefix.to_owned(),
            heard: None,
            events: Vec::new(),
            index: 0,
            trouble: None,
            asked: None,
            said: None,
            due: Instant::now(),
            fresh: false,
        }
    }

    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    pub fn known(&self) -> Known {
        Known { cluster: self.cluster.clone(), alone: self.trouble.is_some() }
    }

    pub fn index(&self) -> u64 {
        self.index
    }

    /// When the members are asked again.
    pub fn due(&self) -> Instant {
        self.due
    }

    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Not before the members have said something; and where pictures follow each other, once for each time.
    pub fn wants_drawing(&mut self, in_place: bool) -> bool {
        let fresh = std::mem::take(&mut self.fresh);
        self.heard.is_some() && (in_place || fresh)
    }

    /// Consul's word.
    pub fn told(&mut self, change: Change) {
        match change {
            Ok((index, pairs)) => {
                self.index = index;
                self.cluster = Cluster::of(&self.cluster.scope, &self.prefix, &pairs);
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
        self.due = self.due.min(Instant::now() + APART);
    }

    /// The members' words; the journals go on from there.
    pub fn found(&mut self, found: Found) -> Tail {
        if let Some(cluster) = found.cluster.filter(|_| self.trouble.is_some()) {
            self.cluster = cluster;
        }
        self.heard = Some(found.heard);
        self.events = found.tail.entries().to_vec();
        self.fresh = true;
        self.due = Instant::now() + EVERY;
        found.tail
    }

    /// What came of a deed.
    pub fn said(&mut self, said: String) {
        self.said = Some(said);
        self.due = Instant::now();
    }

    /// Nothing is done without a yes to the question that is shown.
    pub fn press(&mut self, key: Key, now: Instant) -> Pressed {
        if let (Some((_, since)), Key::Yes) = (self.asked, key)
            && now.duration_since(since) < READ
        {
            return Pressed::Nothing;
        }
        let asked = self.asked.take();
        self.said = None;
        match (asked, key) {
            (Some((deed, _)), Key::Yes) => {
                self.said = Some("under way …".to_owned());
                Pressed::Do(deed)
            }
            (_, Key::Quit) => Pressed::Quit,
            (_, key) => {
                self.asked = Deed::of(key, &self.cluster).map(|deed| (deed, now));
                Pressed::Nothing
            }
        }
    }

    /// For a screen so wide.
    pub fn picture(&self, width: Option<usize>, keys: bool) -> Picture {
        let mut head = vec![time()];
        head.extend(self.trouble.clone());
        let nobody = Heard::default();
        let heard = self.heard.as_ref().unwrap_or(&nobody);
        head.extend(list::with_lease(&self.cluster, heard).lines().map(str::to_owned));
        let mut foot = Vec::new();
        if keys {
            foot.extend(self.said.clone());
            let question = self.asked.map(|(deed, _)| deed.question(&self.cluster));
            foot.push(question.unwrap_or_else(|| KEYS.to_owned()));
        }
        Picture { head, events: short(&self.events, width), foot }
    }
}

/// This machine's clock; and where it is not UTC, which events have, that.
fn time() -> String {
    let now = hart_clock::wall();
    let here = now.to_zoned(TimeZone::system());
    let utc = if here.offset().is_zero() {
        String::new()
    } else {
        format!("  ({} UTC)", now.strftime("%H:%M:%S"))
    };
    format!("{}{utc}", here.strftime("%Y-%m-%d %H:%M:%S %Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cluster::tests::made;

    fn live() -> Live {
        Live::new(made(), "service/ha/")
    }

    #[test]
    fn a_key_asks_and_only_yes_does_it() {
        let (mut live, now) = (live(), Instant::now());
        let mut press = |key, ms| live.press(key, now + Duration::from_millis(ms));
        assert_eq!(press(Key::Yes, 0), Pressed::Nothing, "there was no question");
        assert_eq!(press(Key::Switchover, 1000), Pressed::Nothing);
        assert_eq!(press(Key::Other, 2000), Pressed::Nothing);
        assert_eq!(press(Key::Yes, 3000), Pressed::Nothing, "it was answered with no");
        press(Key::Pause, 4000);
        assert_eq!(press(Key::Yes, 5000), Pressed::Do(Deed::Pause));
        assert_eq!(press(Key::Yes, 6000), Pressed::Nothing, "once");
        assert_eq!(press(Key::Quit, 7000), Pressed::Quit);
    }

    /// `systemctl`, typed into the wrong window.
    #[test]
    fn a_word_is_no_answer() {
        let (mut live, now) = (live(), Instant::now());
        let keys = [Key::Switchover, Key::Yes, Key::Switchover, Key::Other];
        for (at, key) in (0..).zip(keys) {
            let pressed = live.press(key, now + Duration::from_millis(100 * at));
            assert_eq!(pressed, Pressed::Nothing);
        }
        assert!(live.asked.is_none());
        // Whoever was too quick is asked still.
        live.press(Key::Switchover, now + Duration::from_secs(1));
        live.press(Key::Yes, now + Duration::from_millis(1100));
        let pressed = live.press(Key::Yes, now + Duration::from_secs(2));
        assert_eq!(pressed, Pressed::Do(Deed::Switchover));
    }

    #[test]
    fn where_pictures_follow_each_other_each_is_news() {
        let mut live = live();
        assert!(!live.wants_drawing(true), "nobody was asked yet");
        let found = Found { cluster: None, heard: Heard::default(), tail: Tail::new(1) };
        live.found(found);
        assert!(live.wants_drawing(false) && !live.wants_drawing(false));
        assert!(live.wants_drawing(true), "a key may have been pressed");
        assert!(!live.is_due());
        live.told(Err("away".to_owned()));
        assert!(live.known().alone && live.due() <= Instant::now() + APART);
    }
}
