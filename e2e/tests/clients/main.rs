//! Clients find the primary: every way on real parts, through a switchover, a lost primary and an
//! outage of Consul. Needs root, but for the forwarders.

mod address;
mod forwarders;
mod mistakes;
mod names;
mod service;
mod ways;

/// Says so where it is not, and then nothing is tested.
fn is_root() -> bool {
    let is = hart_testkit::is_root();
    if !is {
        eprintln!("not root: nothing was tested");
    }
    is
}
