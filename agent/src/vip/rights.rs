//! The right to change addresses (CAP_NET_ADMIN): for one thread of the agent, and nobody else.
//! Guard and PostgreSQL are started by another thread, and inherit nothing.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    set_capabilities, set_keep_capabilities,
};

const NETWORK: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// What root may stays permitted (and is of no effect) when root becomes somebody else. To be
/// followed by [`give_up`].
///
/// # Errors
/// The kernel refuses.
pub fn keep_over_change_of_user() -> io::Result<()> {
    Ok(set_keep_capabilities(true)?)
}

/// Another program that this thread puts in the place of the process may do what the thread may: change
/// addresses, and speak with neighbours.
///
/// # Errors
/// The kernel refuses.
pub fn pass_on() -> io::Result<()> {
    let now = capabilities(None)?;
    let inheritable = now.inheritable | (now.permitted & NETWORK);
    set_capabilities(None, CapabilitySets { inheritable, ..now })?;
    for right in [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW] {
        if now.permitted.contains(right) {
            configure_capability_in_ambient_set(right, true)?;
        }
    }
    Ok(())
}

/// The calling thread may change addresses from now on, and nothing else. False: it never could. The right
/// to speak with neighbours is kept for [`pass_on`], without effect: the sockets are open already.
///
/// # Errors
/// The kernel refuses.
pub fn only_addresses() -> io::Result<bool> {
    let had = capabilities(None)?.permitted;
    let has = had.contains(CapabilitySet::NET_ADMIN);
    let permitted = if has { had & NETWORK } else { CapabilitySet::empty() };
    let effective = permitted & CapabilitySet::NET_ADMIN;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?;
    Ok(has)
}

/// The calling thread, and all that it starts, has no right to the network's settings any more,
/// and none that was only kept over the change of user.
///
/// # Errors
/// The kernel refuses: nothing may go on.
pub fn give_up() -> io::Result<()> {
    set_keep_capabilities(false)?;
    let now = capabilities(None)?;
    let effective = now.effective - NETWORK;
    let sets = CapabilitySets {
        effective,
        permitted: effective,
        inheritable: now.inheritable & effective,
    };
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // What is not inheritable leaves the ambient set, too (capabilities(7)).
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_belong_to_one_thread() {
        let before = capabilities(None).unwrap().permitted;
        let thread = std::thread::spawn(|| {
            let had = only_addresses().unwrap();
            (had, capabilities(None).unwrap())
        });
        let (had, sets) = thread.join().unwrap();
        assert_eq!(had, before.contains(CapabilitySet::NET_ADMIN));
        assert!((sets.permitted - NETWORK).is_empty());
        assert!((sets.effective - CapabilitySet::NET_ADMIN).is_empty());
        assert_eq!(capabilities(None).unwrap().permitted, before);
    }
}
