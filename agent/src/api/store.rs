//! Reads from Consul for calls that change something: these need the present, not the view.

use std::time::Duration;

use hart_consul::{Client, ReadOptions};
use hart_ha::store::Snapshot;

use crate::node::keys::Keys;
use crate::node::view::Handle;

/// How long one call to Consul may take. There is a person waiting, not a lease.
const DEADLINE: Duration = Duration::from_secs(5);

/// The client with the deadline for REST.
pub(super) fn client(handle: &Handle) -> Client {
    handle.consul.with_timeout(DEADLINE)
}

/// The whole name of a key of the cluster.
pub(super) fn key(handle: &Handle, name: &str) -> String {
    keys(handle).key(name)
}

fn keys(handle: &Handle) -> Keys {
    Keys::new(handle.file.kv_prefix())
}

/// All keys of the cluster, read consistently.
///
/// # Errors
/// See [`hart_consul::Error`].
pub(super) async fn cluster(handle: &Handle) -> hart_consul::Result<Snapshot> {
    let keys = keys(handle);
    let client = client(handle);
    let read = client.kv().get_recurse(keys.prefix(), &ReadOptions::consistent()).await?;
    let (snapshot, problems) = keys.snapshot(&read.value);
    for problem in problems {
        tracing::warn!(%problem, "a key in Consul is left out");
    }
    Ok(snapshot)
}
