//! The client against a real Consul.

mod acl;
mod consul;
mod https;
mod kv;
mod services;
mod session;
mod txn;
