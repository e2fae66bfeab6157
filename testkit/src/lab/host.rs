//! One host of a lab.

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use super::netns::{self, NetNs};
use crate::process::Process;

/// A network namespace with the loopback device, one interface `eth0` and one address. Cheap to
/// clone; it goes away with its [`super::Lab`], and clones are of no use then.
#[derive(Clone, Debug)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    address: Ipv4Addr,
    /// The end of its cable at the bridge.
    port: String,
    /// The number of its socket at the switch in user space.
    socket: usize,
    netns: NetNs,
}

impl Host {
    pub(super) fn new(
        name: &str,
        address: Ipv4Addr,
        port: String,
        socket: usize,
        netns: NetNs,
    ) -> Self {
        Self { inner: Arc::new(Inner { name: name.to_owned(), address, port, socket, netns }) }
    }

    /// Its name, such as `n1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.inner.address
    }

    /// Runs a program on the host to its end and collects its output.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.inside(|| {
            command.output().with_context(|| format!("cannot run {:?}", command.get_program()))
        })
    }

    /// Starts a program on the host; output goes to `log`, and it is killed with the value.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: &mut Command, log: &Path) -> Result<Process> {
        self.inside(|| Process::start(command, log))
    }

    /// Starts a program on the host with the standard streams that it has been given.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.inside(|| {
            command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))
        })
    }

    /// Runs a future on a thread of its own that is on the host, with a runtime of its own; its
    /// sockets are the host's.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn thread<F, R>(&self, make: F) -> Result<JoinHandle<Result<R::Output>>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output: Send + 'static>,
    {
        let door = self.netns().door()?;
        let work = move || {
            let _inside = netns::enter(&door)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(make()))
        };
        let name = format!("host-{}", self.name());
        std::thread::Builder::new().name(name).spawn(work).context("cannot start a thread")
    }

    /// The processes on the host, without threads of this one.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.netns().processes()
    }

    /// Ends every process on the host with SIGKILL at once.
    ///
    /// # Errors
    /// When one survives.
    pub fn kill_processes(&self) -> Result<()> {
        self.netns().kill_processes()
    }

    pub(super) fn netns(&self) -> &NetNs {
        &self.inner.netns
    }

    pub(super) fn port(&self) -> &str {
        &self.inner.port
    }

    pub(super) fn socket(&self) -> usize {
        self.inner.socket
    }

    /// A child inherits the namespace of the thread that starts it, so the thread goes there and
    /// comes back.
    fn inside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _inside = self.netns().enter()?;
        work()
    }
}
