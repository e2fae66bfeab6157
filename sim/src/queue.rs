//! The queue of events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::clock::Us;
use crate::event::Event;

/// The queue. Equal times keep their order of entry.
#[derive(Default)]
pub struct Queue {
    order: BinaryHeap<Reverse<(Us, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
}

impl Queue {
    /// Puts an event in.
    pub fn push(&mut self, at: Us, event: Event) {
        self.next += 1;
        self.order.push(Reverse((at, self.next)));
        self.events.insert(self.next, event);
    }

    /// Takes the next one.
    pub fn pop(&mut self) -> Option<(Us, Event)> {
        while let Some(Reverse((at, number))) = self.order.pop() {
            if let Some(event) = self.events.remove(&number) {
                return Some((at, event));
            }
        }
        None
    }
}
