//! Files for the programs around a cluster (HAProxy, PgBouncer, keepalived, systemd, Consul),
//! rendered from its state. The templates are in `templates/`, built in, and a directory of the
//! user's own goes before them.

mod catalogue;
mod engine;
mod file;
mod header;
mod model;
mod reload;

pub use catalogue::{Catalogue, Template};
pub use engine::{RenderError, render};
pub use file::Target;
pub use header::Header;
pub use model::Model;
pub use reload::{ReloadError, reload};

#[cfg(test)]
mod tests;
