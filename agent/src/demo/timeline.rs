//! What happened, and when.

use hart_ha::time::Time;

/// Events with their time since the start.
#[derive(Debug)]
pub struct Timeline {
    start: Time,
    events: Vec<(Time, String)>,
    silent: bool,
}

impl Timeline {
    /// Begins now. Events are printed as they come.
    #[must_use]
    pub fn new() -> Self {
        Self { start: hart_clock::now(), events: Vec::new(), silent: false }
    }

    /// From now on events are only kept: somebody else draws them.
    pub fn silence(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// Something happened now.
    pub fn add(&mut self, event: impl Into<String>) {
        self.add_at(hart_clock::now(), event);
    }

    /// Something happened at `at`.
    pub fn add_at(&mut self, at: Time, event: impl Into<String>) {
        let event = event.into();
        if !self.silent {
            println!("{}", self.line(at, &event));
        }
        self.events.push((at, event));
    }

    /// The last events as lines, the oldest first.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<String> {
        let from = self.events.len().saturating_sub(count);
        self.events[from..].iter().map(|(at, event)| self.line(*at, event)).collect()
    }

    fn line(&self, at: Time, event: &str) -> String {
        format!("{:8.2} s  {event}", at.since(self.start).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn events_are_shown_with_the_time_since_the_start() {
        let mut timeline = Timeline { start: Time::from_millis(500), events: vec![], silent: true };
        timeline.add_at(Time::from_millis(500) + Duration::from_millis(1250), "leader n1");
        timeline.add_at(Time::from_millis(60_500), "leader n2");
        assert_eq!(timeline.last(9), ["    1.25 s  leader n1", "   60.00 s  leader n2"]);
        assert_eq!(timeline.last(1), ["   60.00 s  leader n2"]);
    }
}
