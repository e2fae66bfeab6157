//! Whole sections of Patroni that have no counterpart in hart.

use crate::keys::{KeyDoc, ignored};

pub(crate) const KEYS: &[KeyDoc] = &[
    ignored("etcd"),
    ignored("etcd3"),
    ignored("exhibitor"),
    ignored("zookeeper"),
    ignored("kubernetes"),
    ignored("raft"),
    ignored("citus"),
    ignored("thread_pool_size"),
    ignored("thread_stack_size"),
];
