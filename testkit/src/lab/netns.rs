//! One network namespace with a name.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::ip;
use crate::procfs;

/// Where `ip netns` keeps its names.
pub(super) const DIRECTORY: &str = "/run/netns";

/// A named network namespace; removed when dropped, with every process in it.
#[derive(Debug)]
pub(crate) struct NetNs {
    name: String,
    file: File,
    inode: u64,
    removed: AtomicBool,
}

impl NetNs {
    pub(super) fn create(name: &str) -> Result<Self> {
        ip::run(&["netns", "add", name])?;
        Self::open(name).inspect_err(|_| {
            let _ = ip::run(&["netns", "delete", name]);
        })
    }

    pub(super) fn open(name: &str) -> Result<Self> {
        let path = format!("{DIRECTORY}/{name}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let inode = file.metadata()?.ino();
        Ok(Self { name: name.to_owned(), file, inode, removed: AtomicBool::new(false) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread inside until the value is dropped.
    pub(super) fn enter(&self) -> Result<Entered> {
        enter(&self.file).with_context(|| format!("namespace {}", self.name))
    }

    /// A way in that does not keep the name alive.
    pub(super) fn door(&self) -> Result<File> {
        self.file.try_clone().context("cannot duplicate a file descriptor")
    }

    /// The processes inside, other than this one.
    pub(super) fn processes(&self) -> Vec<u32> {
        procfs::in_namespace(self.inode)
    }

    /// All at one moment, as far as they can tell: they are stopped before the first one is killed, so that
    /// none has a last word about another one's end. Whose number is the lowest is chance.
    pub(super) fn kill_processes(&self) -> Result<()> {
        procfs::freeze_all(|| self.processes())?;
        procfs::kill_all(|| self.processes())
    }

    /// Kills the processes inside and removes the name; the second time it does nothing. Threads
    /// of this process that are inside keep a nameless namespace until they end.
    pub(super) fn remove(&self) {
        if self.removed.swap(true, Ordering::Relaxed) {
            return;
        }
        let killed = self.kill_processes();
        let deleted = ip::run(&["netns", "delete", &self.name]);
        for error in [killed, deleted].into_iter().filter_map(Result::err) {
            eprintln!("namespace {}: {error:#}", self.name);
        }
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Moves the calling thread through this door until the value is dropped.
pub(super) fn enter(door: &File) -> Result<Entered> {
    let outside = File::open("/proc/thread-self/ns/net").context("cannot open own namespace")?;
    set(door).context("cannot enter")?;
    Ok(Entered { outside, _of_this_thread: PhantomData })
}

/// The calling thread is in another network namespace until this is dropped.
#[derive(Debug)]
pub struct Entered {
    outside: File,
    /// Leaving must happen on the thread that entered.
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Err(error) = set(&self.outside) {
            eprintln!("cannot leave the network namespace: {error:#}");
        }
    }
}

fn set(namespace: &File) -> Result<()> {
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}
