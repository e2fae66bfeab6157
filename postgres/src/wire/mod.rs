//! Our own connections to PostgreSQL, as wide and as careful as libpq's: which way, with which
//! encryption, and what is told to whom.

mod dial;
mod login;
mod options;
mod stream;
mod tls;

pub(crate) use dial::{Entry, Place, Way, open};
pub(crate) use stream::Handshaken;
