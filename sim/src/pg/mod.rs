//! PostgreSQL and its guard.

mod archive;
mod commits;
mod guard;
mod impostor;
mod process;
mod readers;
mod state;
mod stray;
mod stream;
pub mod wal;

pub use archive::Archive;
pub use guard::ARM_TIMEOUT;
pub use impostor::Impostor;
pub use state::{Content, Disk, Receiver, Sender, Server, Stage, Waiting};
pub(crate) use stray::STRAY;
