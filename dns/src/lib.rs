//! The DNS responder: names of clusters' nodes, answered from memory.
//!
//! | module | does |
//! |---|---|
//! | `name`, `label` | names in wire form; member and cluster names made into labels |
//! | `cluster` | what the responder is told of a cluster |
//! | `table`, `node` | the names below one cluster, made anew whenever its state changes |
//! | `zone`, `publisher` | all clusters; swapped atomically, looked up without a lock |
//! | `question`, `fast` | ordinary questions, answered without an allocation |
//! | `hickory` | every other question, by hickory-server; nothing else knows that crate |
//! | `responder` | one packet in, at most one packet out |
//! | `udp`, `tcp`, `forward`, `server` | sockets and their limits |
//!
//! No question ever waits for Consul: the zone is what was published last. The name of a primary
//! carries the moment at which its lease is certainly over ([`Publisher::put`]), and from that
//! moment the name has no address.

#![forbid(unsafe_code)]

mod bind;
mod cluster;
mod counters;
mod fast;
mod forward;
mod fuzz;
mod hickory;
mod inbox;
mod label;
mod name;
mod node;
mod outbox;
mod publisher;
mod question;
mod responder;
mod server;
mod settings;
mod table;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod zone;

pub use bind::{BindError, SocketType, Sockets};
pub use cluster::{Cluster, Host, Member};
pub use counters::{Count, Counters};
pub use fuzz::{Fuzz, Tally};
pub use label::label;
pub use name::{Name, NameError};
pub use publisher::Publisher;
pub use responder::{Responder, Transport};
pub use server::{Server, ServerError};
pub use settings::Settings;
