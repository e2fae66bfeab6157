//! What goes wrong, when, and for how long. Each seed draws the kinds of faults that it uses, so
//! that some runs have many of a few kinds and others a few of many.

mod hand;
mod hang;
mod healing;
mod kinds;
mod person;
mod plan;
mod strike;

pub use hang::Hang;
pub use kinds::{KINDS, Kind};
pub use plan::{Heal, Plan};
