//! The brain's phases without names and numbers, for the coverage table.

/// The brain's phases without names and numbers, for the coverage table.
pub const STATES: &[&str] = &[
    "waiting for Consul to show the takeover",
    "waiting for Consul",
    "fencing",
    "noting the new term",
    "leading;",
    "leading without Consul",
    "leading",
    "promoting",
    "waiting for the guard",
    "waiting until the guard",
    "making sure of the published",
    "waiting for the word of",
    "taking over the synchronous set",
    "giving the lease up",
    "reading the control file",
    "completing the new cluster",
    "choosing who leads next",
    "checkpoint before",
    "stopping to hand over",
    "naming",
    "waiting for the next leader",
    "handing the lease over",
    "stopping",
    "taking the lease back",
    "taking the first lease",
    "following",
    "waiting for a leader",
    "waiting for",
    "asking for the right",
    "initializing",
    "PostgreSQL is starting",
    "not eligible",
    "paused",
    "Consul does not answer",
    "Consul has lost the lease",
    "Consul shows a reign of the past",
    "no leader; ",
    "base backup",
    "start",
    "rewind",
    "compare",
    "diverged",
];

/// Phases that are told apart by what they contain.
const WITHIN: &[(&str, &str)] = &[
    ("still answers as primary", "a primary still answers"),
    ("is better placed", "a better peer"),
    ("its member entry is missing", "leader without entry"),
    ("candidate that was asked for", "another is the candidate"),
    ("failed, trying again", "a job failed"),
    ("has lost the failsafe list", "somebody may lead without Consul"),
    ("has promised", "bound by a promise"),
];

/// How many classes there are.
pub const CLASSES: usize = STATES.len() + WITHIN.len() + 1;

/// The class of a phase, below [`CLASSES`].
#[must_use]
pub fn class_of(phase: &str) -> usize {
    if let Some(found) = STATES.iter().position(|state| phase.starts_with(*state)) {
        return found;
    }
    let within = WITHIN.iter().position(|(words, _)| phase.contains(*words));
    STATES.len() + within.unwrap_or(WITHIN.len())
}

/// A class's name.
#[must_use]
pub fn class_name(class: usize) -> &'static str {
    let within = WITHIN.get(class.wrapping_sub(STATES.len())).map(|(_, name)| *name);
    STATES.get(class).copied().or(within).unwrap_or("other")
}
