//! On real interfaces: two network namespaces and a cable between them. They are nameless and
//! belong to the threads of a test, so they vanish with it, however it ends.

use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use hart_config::{VipAddress, VipConflict};
use hart_ha::time::Time;

use super::holder::{Holder, Means};
use super::interface::Interface;
use super::neighbours::Neighbours;
use super::netlink::Netlink;
use super::packets::Mac;

const DEADLINE: Duration = Duration::from_secs(60);

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not root: network namespaces cannot be made, nothing was tested");
    }
    root
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {said}");
}

fn nix_unshare() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

/// The neighbour at the other end of the cable, in a namespace of its own.
struct Neighbour {
    orders: mpsc::Sender<String>,
    done: mpsc::Receiver<Vec<(Mac, IpAddr)>>,
}

impl Neighbour {
    fn start() -> Self {
        let (orders, inbox) = mpsc::channel::<String>();
        let (answer, done) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            nix_unshare();
            ready.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let mut listening: Option<Neighbours> = None;
            for order in inbox {
                match order.as_str() {
                    "listen" => {
                        let mut neighbours = Neighbours::open();
                        neighbours.bind(&Interface::find("far").unwrap());
                        listening = Some(neighbours);
                    }
                    "heard" => {
                        let heard = listening.as_mut().unwrap().claims([0; 6]);
                        answer.send(heard).unwrap();
                        continue;
                    }
                    command => ip(command),
                }
                answer.send(Vec::new()).unwrap();
            }
        });
        let tid = is_ready.recv_timeout(DEADLINE).unwrap();
        ip(&format!("link add near type veth peer name far netns {tid}"));
        ip("addr add 10.9.0.1/24 dev near");
        ip("link set near up");
        let neighbour = Self { orders, done };
        neighbour.order("addr add 10.9.0.2/24 dev far");
        neighbour.order("link set far up");
        neighbour
    }

    fn order(&self, order: &str) -> Vec<(Mac, IpAddr)> {
        self.orders.send(order.to_owned()).unwrap();
        self.done.recv_timeout(DEADLINE).unwrap()
    }

    fn hears(&self, who: IpAddr) {
        let begun = hart_clock::now();
        let mut heard = Vec::new();
        while !heard.iter().any(|(_, ip)| *ip == who) {
            assert!(hart_clock::now() < begun + DEADLINE, "not heard of {who}: {heard:?}");
            heard.extend(self.order("heard"));
            std::thread::yield_now();
        }
    }
}

/// Runs in a namespace of its own.
fn inside(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix_unshare();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn has(netlink: &mut Netlink, address: VipAddress) -> bool {
    netlink.list().unwrap().iter().any(|present| present.ip == address.ip)
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = hart_clock::now();
    while !is() {
        assert!(hart_clock::now() < begun + DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

struct Node {
    netlink: Netlink,
    neighbours: Neighbours,
    conflict: VipConflict,
}

impl Node {
    fn new() -> Self {
        let conflict = VipConflict::Refuse;
        Self { netlink: Netlink::open().unwrap(), neighbours: Neighbours::open(), conflict }
    }

    /// One look of the officer's.
    fn turn(&mut self, holder: &mut Holder, due: Duration) -> Time {
        let now = hart_clock::now();
        let interface = Interface::find("near").unwrap();
        self.neighbours.bind(&interface);
        let claims = self.neighbours.claims(interface.mac);
        let Self { netlink, neighbours, conflict } = self;
        let mut means = Means { netlink, neighbours, interface, conflict: *conflict };
        let own = holder.address().ip;
        for (by, _) in claims.iter().filter(|(_, ip)| *ip == own) {
            holder.claimed(*by, now, &mut means);
        }
        holder.want(now + due, now, &mut means);
        now
    }
}

#[test]
fn an_address_is_put_on_announced_and_vanishes_by_itself() {
    if !is_root() {
        return;
    }
    inside(|| {
        let neighbour = Neighbour::start();
        neighbour.order("listen");
        let mut node = Node::new();
        let address: VipAddress = "10.9.0.100/24".parse().unwrap();
        let mut holder = Holder::new(address);
        until("put on", || {
            node.turn(&mut holder, Duration::from_millis(2900));
            has(&mut node.netlink, address)
        });
        neighbour.hears(address.ip);
        // Nobody prolongs it: agent and guard are dead. The kernel removes it before the deadline,
        // give or take its own laziness.
        until("gone by itself", || !has(&mut node.netlink, address));
        assert!(holder.until() > Time::ZERO);
    });
}

#[test]
fn an_address_is_prolonged_and_taken_off() {
    if !is_root() {
        return;
    }
    inside(|| {
        let neighbour = Neighbour::start();
        neighbour.order("listen");
        let mut node = Node::new();
        for text in ["10.9.0.100/24", "fd09::100/64"] {
            let address: VipAddress = text.parse().unwrap();
            let mut holder = Holder::new(address);
            until("put on", || {
                node.turn(&mut holder, Duration::from_secs(3));
                has(&mut node.netlink, address)
            });
            // Longer than the lifetime that it was put on with.
            let begun = hart_clock::now();
            until("time", || {
                node.turn(&mut holder, Duration::from_secs(100));
                hart_clock::now() > begun + Duration::from_secs(4)
            });
            assert!(has(&mut node.netlink, address), "{text} was prolonged");
            neighbour.hears(address.ip);
            let index = Interface::find("near").unwrap().index;
            holder.give_up(hart_clock::now(), &mut node.netlink, index);
            assert!(!has(&mut node.netlink, address), "{text} was taken off");
            assert_eq!(holder.until(), Time::ZERO);
            node.netlink.remove(index, address).unwrap();
        }
    });
}

#[test]
fn an_address_of_another_host_is_not_taken_before_it_is_free() {
    if !is_root() {
        return;
    }
    inside(|| {
        let neighbour = Neighbour::start();
        let mut node = Node::new();
        for text in ["10.9.0.100/24", "fd09::100/64"] {
            let address: VipAddress = text.parse().unwrap();
            neighbour.order(&format!(
                "addr add {text} dev far{}",
                if address.ip.is_ipv6() { " nodad" } else { "" }
            ));
            // The other side must be able to answer; IPv6 needs its link-local addresses first.
            settle(&mut node, address);
            let mut holder = Holder::new(address);
            let begun = hart_clock::now();
            until("time", || {
                node.turn(&mut holder, Duration::from_secs(100));
                hart_clock::now() > begun + Duration::from_secs(2)
            });
            assert!(!has(&mut node.netlink, address), "{text} is the other's");
            neighbour.order(&format!("addr del {text} dev far"));
            until("free", || {
                node.turn(&mut holder, Duration::from_secs(100));
                has(&mut node.netlink, address)
            });
        }
    });
}

/// Until the neighbour answers for its address.
fn settle(node: &mut Node, address: VipAddress) {
    let interface = Interface::find("near").unwrap();
    until("an answer", || {
        node.neighbours.ask(&interface, address.ip);
        let until = hart_clock::now() + Duration::from_millis(50);
        let mut heard = Vec::new();
        while hart_clock::now() < until {
            heard.extend(node.neighbours.claims(interface.mac));
        }
        heard.iter().any(|(_, ip)| *ip == address.ip)
    });
}

#[test]
fn an_address_that_somebody_else_put_on_is_not_touched() {
    if !is_root() {
        return;
    }
    inside(|| {
        let _neighbour = Neighbour::start();
        ip("addr add 10.9.0.100/24 dev near");
        let mut node = Node::new();
        let address: VipAddress = "10.9.0.100/24".parse().unwrap();
        let mut holder = Holder::new(address);
        for _ in 0..3 {
            node.turn(&mut holder, Duration::from_secs(3));
        }
        assert_eq!(holder.until(), Time::ZERO);
        let index = Interface::find("near").unwrap().index;
        holder.give_up(hart_clock::now(), &mut node.netlink, index);
        assert!(has(&mut node.netlink, address));
        assert!(Interface::find("nope").unwrap_err().contains("near"), "the others are named");
    });
}

#[test]
fn no_rights_are_said_and_no_harm() {
    if !is_root() {
        return;
    }
    inside(|| {
        let _neighbour = Neighbour::start();
        let mut node = Node::new();
        super::rights::only_addresses().unwrap();
        let none = rustix::thread::CapabilitySet::empty();
        let sets =
            rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).unwrap();
        let address: VipAddress = "10.9.0.100/24".parse().unwrap();
        let index = Interface::find("near").unwrap().index;
        let error = node.netlink.put(index, address, Duration::from_secs(9)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(!has(&mut node.netlink, address));
    });
}

fn said(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The machine's own address has a lifetime, as from DHCPv6 or SLAAC, and shares its route.
#[test]
fn the_route_of_the_machines_own_address_stays_as_it_was() {
    if !is_root() {
        return;
    }
    inside(|| {
        let _neighbour = Neighbour::start();
        ip("addr add fd0a::10/64 dev near nodad valid_lft 3600 preferred_lft 3600");
        let mut node = Node::new();
        let address: VipAddress = "fd0a::100/64".parse().unwrap();
        let index = Interface::find("near").unwrap().index;
        let left = || {
            let route = said("-6 route show fd0a::/64 dev near");
            let word = route.split(' ').skip_while(|word| *word != "expires").nth(1);
            let seconds = word.and_then(|word| word.trim_end_matches("sec").parse::<i64>().ok());
            seconds.unwrap_or_else(|| panic!("no lifetime: {route:?}"))
        };
        assert!(left() > 600);
        node.netlink.put(index, address, Duration::from_secs(5)).unwrap();
        assert!(left() > 600, "put on: {} s", left());
        node.netlink.put(index, address, Duration::from_secs(3)).unwrap();
        assert!(left() > 600, "prolonged: {} s", left());
        node.netlink.remove(index, address).unwrap();
        assert!(left() > 600, "taken off: {} s", left());
        node.netlink.put(index, address, Duration::from_secs(2)).unwrap();
        until("gone by itself", || !has(&mut node.netlink, address));
        assert!(left() > 600, "ran out: {} s", left());
    });
}

/// Alone in its network it brings the route, which lasts as long as it does, also beside another of
/// hart's.
#[test]
fn an_address_that_is_alone_in_its_network_brings_the_route() {
    if !is_root() {
        return;
    }
    inside(|| {
        let _neighbour = Neighbour::start();
        let addresses: [VipAddress; 2] =
            ["fd0b::100/64".parse().unwrap(), "fd0b::101/64".parse().unwrap()];
        let ours = addresses.map(|address| address.ip).to_vec();
        let mut netlink = Netlink::open().unwrap().with(ours);
        let index = Interface::find("near").unwrap().index;
        for _ in 0..2 {
            for address in addresses {
                netlink.put(index, address, Duration::from_secs(600)).unwrap();
            }
        }
        let route = said("-6 route show fd0b::/64 dev near");
        assert!(route.contains("expires"), "{route:?}");
        for address in addresses {
            netlink.remove(index, address).unwrap();
        }
    });
}

/// The kernel takes all later addresses of an IPv4 network along when the first one goes.
#[test]
fn an_own_address_that_comes_later_stays_when_the_virtual_one_goes() {
    if !is_root() {
        return;
    }
    inside(|| {
        let _neighbour = Neighbour::start();
        let mut node = Node::new();
        let address: VipAddress = "10.11.0.100/24".parse().unwrap();
        let own: VipAddress = "10.11.0.10/24".parse().unwrap();
        let index = Interface::find("near").unwrap().index;
        node.netlink.put(index, address, Duration::from_secs(2)).unwrap();
        ip("addr add 10.11.0.10/24 dev near");
        until("gone by itself", || !has(&mut node.netlink, address));
        assert!(has(&mut node.netlink, own), "it went, too");
        assert!(said("-4 route show dev near").contains("10.11.0.0/24"));
    });
}
