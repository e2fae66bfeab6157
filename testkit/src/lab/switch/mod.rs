//! A switch in user space: each host has a TAP device, and one thread passes frames between them. It can
//! lose, delay, double and reorder them by pair of hosts and by port, which a kernel without netem cannot.

mod forward;
mod frame;

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use self::forward::Core;
pub use self::forward::Trouble;
pub(super) use self::forward::Which;

/// The longest frame: an Ethernet header and as much as the devices take.
const FRAME_MAX: usize = 2048;
/// So many frames are taken from one device before the others have their turn.
const AT_ONCE: usize = 64;
/// The thread looks around at least so often.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Shared {
    core: Core,
    /// By their number in the core.
    devices: Vec<Arc<Device>>,
    stopped: bool,
}

struct Device(SyncDevice);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Device")
    }
}

/// See the module's text. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct Switch {
    shared: Arc<Mutex<Shared>>,
    /// Wakes the thread.
    bell: UnixDatagram,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// One without devices.
    pub(super) fn start(seed: u64) -> Result<Self> {
        let (bell, ear) = UnixDatagram::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        let shared = Shared { core: Core::new(seed), devices: Vec::new(), stopped: false };
        let shared = Arc::new(Mutex::new(shared));
        let inside = shared.clone();
        let work = move || pass_frames(&inside, &ear);
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(work)?;
        Ok(Self { shared, bell, thread: Some(thread) })
    }

    /// Makes a TAP device of this name in the network namespace of the calling thread; its number.
    pub(super) fn plug_in(&self, name: &str) -> Result<usize> {
        let device =
            DeviceBuilder::new().name(name).layer(Layer::L2).build_sync().with_context(|| {
                format!("cannot make the TAP device {name} (is /dev/net/tun there?)")
            })?;
        device.set_nonblocking(true)?;
        let mut shared = locked(&self.shared);
        shared.devices.push(Arc::new(Device(device)));
        let socket = shared.core.add_socket();
        drop(shared);
        self.ring();
        Ok(socket)
    }

    /// From now on; the number ends it.
    pub(super) fn disturb(&self, which: Which, trouble: Trouble) -> u64 {
        locked(&self.shared).core.add_rule(which, trouble)
    }

    /// False: it had ended already.
    pub(super) fn end(&self, rule: u64) -> bool {
        locked(&self.shared).core.end_rule(rule)
    }

    pub(super) fn end_all(&self) {
        locked(&self.shared).core.end_all_rules();
    }

    fn ring(&self) {
        // A full queue wakes as well.
        let _ = self.bell.send(b"!");
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        locked(&self.shared).stopped = true;
        self.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pass_frames(shared: &Mutex<Shared>, ear: &UnixDatagram) {
    let begun = hart_clock::now();
    let mut buffer = vec![0; FRAME_MAX];
    loop {
        let (devices, next) = {
            let shared = locked(shared);
            if shared.stopped {
                return;
            }
            (shared.devices.clone(), shared.core.next())
        };
        let pause =
            next.map_or(LOOK, |at| at.saturating_sub(hart_clock::now().since(begun)).min(LOOK));
        let mut fds: Vec<PollFd<'_>> = devices
            .iter()
            .map(|device| PollFd::from_borrowed_fd(device.0.as_fd(), PollFlags::IN))
            .collect();
        fds.push(PollFd::new(ear, PollFlags::IN));
        let timeout = pause.try_into().ok();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, timeout.as_ref());
        let _ = ear.recv(&mut buffer);
        let mut shared = locked(shared);
        for (number, device) in devices.iter().enumerate() {
            for _ in 0..AT_ONCE {
                match device.0.recv(&mut buffer) {
                    Ok(length) => {
                        shared.core.take(hart_clock::now().since(begun), number, &buffer[..length])
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
        while let Some(due) = shared.core.due(hart_clock::now().since(begun)) {
            // A device that takes no more loses the frame, as a full switch does.
            let _ = devices.get(due.to).map(|device| device.0.send(&due.bytes));
        }
    }
}
