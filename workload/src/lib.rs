//! A writer that inserts rows at a steady rate, and a ledger that knows which rows were
//! acknowledged, when and by which node.
//!
//! An outage is the longest gap between acknowledged writes; an overlap is the time in which two
//! nodes acknowledged; a lost row is one that was acknowledged and is not in the table afterwards.
//! Used by `hart demo` and by the benchmark, so it depends on little more than `tokio-postgres`.

#![forbid(unsafe_code)]

mod acks;
mod check;
mod failure;
mod ledger;
mod ranges;
mod reigns;
mod rows;
mod session;
mod table;
mod writer;

pub use acks::Gap;
pub use check::{Check, CheckFailed, RowId, check};
pub use failure::{Failure, Outcome};
pub use ledger::{Counts, Ledger};
pub use ranges::Ranges;
pub use reigns::Overlap;
pub use table::{CheckError, TABLE, create_table, present_rows};
pub use writer::{Node, Plan, Target, run};
