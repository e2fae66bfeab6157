//! The brain's phases without names and numbers, for the coverage table.

/// The brain's phases without names and numbers, for the coverage table.
pub const STATES: &[&str] = &[
    "waiting for Consul",
    "fencing",
    "noting the new term",
    "leading;",
    "leading",
    "promoting",
    "waiting for the guard",
    "taking over the synchronous set",
    "giving the lease up",
    "reading the control file",
    "completing the new cluster",
    "choosing who leads next",
    "checkpoint before",
    "stopping to hand over",
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
    "Consul does not answer",
    "busy",
    "base backup",
    "start",
    "rewind",
    "compare",
    "diverged",
    "another installation",
];

/// The class of a phase.
#[must_use]
pub fn state_class(phase: &str) -> &'static str {
    if let Some(found) = STATES.iter().find(|state| phase.starts_with(**state)) {
        return found;
    }
    if phase.contains("still answers as primary") {
        "a primary still answers"
    } else if phase.contains("is better placed") {
        "a better peer"
    } else if phase.contains("its member entry is missing") {
        "leader without entry"
    } else if phase.contains("candidate that was asked for") {
        "another is the candidate"
    } else if phase.contains("failed, trying again") {
        "a job failed"
    } else {
        "other"
    }
}
