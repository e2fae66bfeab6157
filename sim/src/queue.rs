//! The queue of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Us;
use crate::event::Event;

/// The queue. Equal times keep their order of entry.
#[derive(Default)]
pub struct Queue {
    /// When, the how-manieth entry, and where in `events`.
    order: BinaryHeap<Reverse<(Us, u64, u32)>>,
    events: Vec<Option<Event>>,
    free: Vec<u32>,
    entries: u64,
}

impl Queue {
    /// Puts an event in.
    pub fn push(&mut self, at: Us, event: Event) {
        self.entries += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            u32::try_from(self.events.len() - 1).unwrap_or(u32::MAX)
        });
        self.events[slot as usize] = Some(event);
        self.order.push(Reverse((at, self.entries, slot)));
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(Us, Event)> {
        let Reverse((at, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        let event = self.events[slot as usize].take()?;
        Some((at, event))
    }
}
