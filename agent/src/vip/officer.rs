//! The thread that has the right to change addresses. It follows the lease thread and the agent's
//! picture, and neither waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hart_config::{Listen, Vip, VipAddress};
use hart_ha::keeper::Hold;
use hart_ha::time::Time;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::holder::{Holder, Means};
use super::interface::Interface;
use super::neighbours::Neighbours;
use super::netlink::Netlink;
use super::plan;
use super::rights;
use crate::node::Standing;
use crate::node::view::View;

/// How often somebody else's claims are looked for, and a lifetime is prolonged.
const LOOK: Duration = Duration::from_secs(1);

/// Until when an address of the primary may be on this node; the lease is not given up before.
#[derive(Clone, Debug, Default)]
pub struct OnUntil(Arc<AtomicU64>);

impl OnUntil {
    /// Is one perhaps still on?
    #[must_use]
    pub fn is_on(&self, now: Time) -> bool {
        now < Time::ZERO + Duration::from_nanos(self.0.load(Ordering::Acquire))
    }

    fn set(&self, until: Time) {
        let nanos = u64::try_from(Time::ZERO.until(until).as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos, Ordering::Release);
    }
}

/// Puts another program in the place of this process; comes back only where that failed.
pub type Leap = Box<dyn FnOnce() -> io::Error + Send>;

/// The thread as the loop sees it.
#[derive(Clone, Debug)]
pub struct Link {
    /// Until when an address of the primary may be here.
    pub on_until: OnUntil,
    leaps: mpsc::UnboundedSender<(Leap, oneshot::Sender<io::Error>)>,
}

impl Link {
    /// Is an address of the primary perhaps still on?
    #[must_use]
    pub fn is_on(&self, now: Time) -> bool {
        self.on_until.is_on(now)
    }

    /// Has the thread do it that has the right to change addresses: what takes this process's place has it
    /// then, too. The error says why nothing did.
    pub async fn leap(&self, leap: Leap) -> io::Error {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that has the virtual address has ended");
        if self.leaps.send((leap, reply)).is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }
}

/// What was opened with root's rights.
pub struct Prepared {
    vip: Vip,
    neighbours: Neighbours,
    netlink: Netlink,
}

/// Opens the sockets and lets the rights outlive the change of user; before any thread is started.
///
/// # Errors
/// The kernel refuses what every Linux has.
pub fn prepare(vip: &Vip, listen: &Listen) -> Result<Prepared, String> {
    let hears = |address: &VipAddress| {
        let own = address.ip.to_string();
        let everywhere = |host: &String| matches!(host.as_str(), "*" | "0.0.0.0" | "::");
        listen.hosts.iter().any(|host| everywhere(host) || *host == own)
    };
    if let Some(deaf) = vip.addresses.iter().chain(&vip.replica_addresses).find(|a| !hears(a)) {
        tracing::warn!(
            "vip: PostgreSQL will not answer at {}: postgresql.listen is {listen}; make it \"*:{}\"",
            deaf.ip,
            listen.port
        );
    }
    let netlink = Netlink::open().map_err(|error| format!("vip: no netlink socket: {error}"))?;
    let ours = vip.addresses.iter().chain(&vip.replica_addresses).map(|address| address.ip);
    let netlink = netlink.with(ours.collect());
    rights::keep_over_change_of_user().map_err(|error| format!("vip: {error}"))?;
    Ok(Prepared { vip: vip.clone(), neighbours: Neighbours::open(), netlink })
}

/// What the thread follows.
pub struct Inputs {
    /// This node's name.
    pub name: String,
    /// The lease thread's word.
    pub standing: watch::Receiver<Standing>,
    /// The agent's picture.
    pub view: Arc<ArcSwap<View>>,
    /// Becomes ready when the picture is replaced.
    pub changes: watch::Receiver<u64>,
    /// Becomes ready when clients are sent away.
    pub traffic: watch::Receiver<bool>,
    /// The agent's loop, which waits until the addresses are off.
    pub wake: Arc<Notify>,
}

/// The thread as the agent sees it. It ends with the agent.
pub struct Vips {
    /// Until when an address of the primary may be here.
    pub on_until: OnUntil,
    begin: oneshot::Sender<Inputs>,
    leaps: mpsc::UnboundedSender<(Leap, oneshot::Sender<io::Error>)>,
}

impl Prepared {
    /// Starts the thread, which alone keeps the right to change addresses.
    ///
    /// # Errors
    /// No thread can be had, or the rights cannot be given up: nothing may go on then.
    pub fn start(self) -> Result<Vips, String> {
        let (begin, inputs) = oneshot::channel();
        let (leaps, asked) = mpsc::unbounded_channel();
        let on_until = OnUntil::default();
        let shared = on_until.clone();
        let thread = std::thread::Builder::new().name("vip".to_owned());
        thread
            .spawn(move || self.run(inputs, shared, asked))
            .map_err(|error| format!("vip: no thread: {error}"))?;
        rights::give_up().map_err(|error| format!("vip: rights cannot be given up: {error}"))?;
        Ok(Vips { on_until, begin, leaps })
    }

    fn run(
        self,
        inputs: oneshot::Receiver<Inputs>,
        on_until: OnUntil,
        mut leaps: mpsc::UnboundedReceiver<(Leap, oneshot::Sender<io::Error>)>,
    ) {
        let may = rights::only_addresses().unwrap_or(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let (Ok(runtime), Ok(inputs)) = (runtime, inputs.blocking_recv()) else { return };
        let mut officer = Officer::new(self, inputs, on_until);
        officer.say_what_is_missing(may);
        runtime.block_on(officer.serve(&mut leaps));
    }
}

impl Vips {
    /// The agent's parts are there: begins.
    pub fn begin(self, inputs: Inputs) -> Link {
        let _ = self.begin.send(inputs);
        Link { on_until: self.on_until, leaps: self.leaps }
    }
}

struct Officer {
    vip: Vip,
    inputs: Inputs,
    neighbours: Neighbours,
    netlink: Netlink,
    holders: Vec<Holder>,
    /// The interface as it was when something was put on it.
    index: u32,
    said: String,
    on_until: OnUntil,
}

impl Officer {
    fn new(prepared: Prepared, inputs: Inputs, on_until: OnUntil) -> Self {
        let Prepared { vip, neighbours, netlink } = prepared;
        let all = vip.addresses.iter().chain(&vip.replica_addresses);
        let holders = all.map(|address| Holder::new(*address)).collect();
        Self { vip, inputs, neighbours, netlink, holders, index: 0, said: String::new(), on_until }
    }

    fn say_what_is_missing(&self, may: bool) {
        if !may {
            tracing::warn!(
                "vip: this process may not change addresses (CAP_NET_ADMIN): start the agent as \
                 root with --user, or give its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
            );
        }
        for v4 in [true, false] {
            let concerned = self.holders.iter().any(|h| h.address().ip.is_ipv4() == v4);
            if let Some(error) = self.neighbours.missing(v4).filter(|_| concerned) {
                let family = if v4 { "ARP" } else { "ICMPv6" };
                tracing::warn!(
                    "vip: no {family} socket (CAP_NET_RAW): {error}; addresses are neither asked \
                     for nor announced, so that clients may go on to the old host for minutes"
                );
            }
        }
    }

    /// Until the agent ends.
    async fn serve(
        &mut self,
        leaps: &mut mpsc::UnboundedReceiver<(Leap, oneshot::Sender<io::Error>)>,
    ) {
        loop {
            let pause = self.turn(hart_clock::now());
            let Inputs { standing, changes, traffic, .. } = &mut self.inputs;
            let went_on = tokio::select! {
                changed = standing.changed() => changed.is_ok(),
                changed = changes.changed() => changed.is_ok(),
                changed = traffic.changed() => changed.is_ok(),
                Some((leap, reply)) = leaps.recv() => {
                    if let Err(error) = rights::pass_on() {
                        tracing::warn!("vip: the right to change addresses is not handed on: {error}");
                    }
                    // The address stays on meanwhile, for as long as the lease lasts.
                    let _ = reply.send(leap());
                    true
                }
                () = tokio::time::sleep(pause) => true,
            };
            if !went_on {
                break;
            }
        }
        let now = hart_clock::now();
        for holder in &mut self.holders {
            holder.give_up(now, &mut self.netlink, self.index);
        }
        self.publish();
    }

    /// One look; how long until the next at the latest.
    fn turn(&mut self, now: Time) -> Duration {
        let view = self.inputs.view.load_full();
        let hold: Option<Hold> = self.inputs.standing.borrow_and_update().lease.hold;
        self.inputs.changes.borrow_and_update();
        let cut = *self.inputs.traffic.borrow_and_update();
        let mut wanted = plan::wanted(&self.vip, &self.inputs.name, &view, hold, now);
        if cut {
            wanted.clear();
        }
        for holder in &mut self.holders {
            if !wanted.iter().any(|(address, _)| *address == holder.address()) {
                holder.give_up(now, &mut self.netlink, self.index);
            }
        }
        if !wanted.is_empty() {
            match Interface::find(&self.vip.interface) {
                Ok(interface) => self.act(interface, &wanted, now),
                Err(problem) => self.complain(&problem),
            }
        }
        self.publish();
        let wake = self.holders.iter().filter_map(|holder| holder.wake(now)).min();
        wake.unwrap_or(LOOK).min(LOOK)
    }

    fn act(&mut self, interface: Interface, wanted: &[plan::Due], now: Time) {
        if !interface.up {
            return self.complain(&format!("interface {} is down", self.vip.interface));
        }
        self.said.clear();
        self.index = interface.index;
        self.neighbours.bind(&interface);
        let claims = self.neighbours.claims(interface.mac);
        let Self { netlink, neighbours, holders, vip, .. } = self;
        let mut means = Means { netlink, neighbours, interface, conflict: vip.conflict };
        for holder in holders {
            let address = holder.address();
            for (by, _) in claims.iter().filter(|(_, ip)| *ip == address.ip) {
                holder.claimed(*by, now, &mut means);
            }
            if let Some((_, due)) = wanted.iter().find(|(wanted, _)| *wanted == address) {
                holder.want(*due, now, &mut means);
            }
        }
    }

    /// What the loop may know: only the primary's addresses hold the lease back.
    fn publish(&self) {
        let primary = |holder: &&Holder| self.vip.addresses.contains(&holder.address());
        let until = self.holders.iter().filter(primary).map(Holder::until).max();
        let until = until.unwrap_or(Time::ZERO);
        let was_on = self.on_until.0.load(Ordering::Acquire) != 0;
        self.on_until.set(until);
        if was_on && until == Time::ZERO {
            self.inputs.wake.notify_one();
        }
    }

    /// Says it once.
    fn complain(&mut self, what: &str) {
        if self.said != what {
            tracing::warn!("vip: {what}");
            what.clone_into(&mut self.said);
        }
    }
}
