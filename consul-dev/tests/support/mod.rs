//! What the conformance tests drive both Consuls with.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod client;
pub mod compare;
pub mod consul;
pub mod ops;
pub mod run;
