//! The network of a test: a client, the balancer's host, and backends, each in a namespace of its own.
//!
//! It is the lab's network ([`Topology`]), built with the same steps, but held by threads of the test: so a
//! test can pull a cable, cut a link's MTU or look into a routing cache in the middle of things.
//!
//! ```text
//!   client ──────── balancer ──┬───────────── backend 1
//!        10.47.1.0/24          └─ … or by way of a router: [`Behind::Router`]
//! ```

use std::fs;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fourseven::io::host::{Netlink, Route};
use fourseven::lab::attempt::{Attempt, Try};
use fourseven::lab::client;
use fourseven::lab::serve::{Serve, Serving};
use fourseven::lab::topology::{BACKEND, LinkEnd, Topology};
use fourseven::packet::Family;
use ipnet::IpNet;

use super::namespace::Namespace;

/// Both families, for tests that do the same in each.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// How the backends are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Each hangs on a link of the balancer's.
    Links,
    /// Each is behind a router of its own.
    Routers,
}

/// What a backend listens for on its one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// HTTP, and the echo over UDP.
    All,
    /// HTTP alone: its UDP port is closed.
    Http,
}

/// A network, gone when this is dropped.
pub struct Net {
    pub topology: Topology,
    pub client: Namespace,
    pub balancer: Namespace,
    pub backends: Vec<Backend>,
}

pub struct Backend {
    pub number: u8,
    pub host: Namespace,
    pub router: Option<Namespace>,
    /// What serves, until a test ends it.
    pub serving: Option<Serving>,
}

impl Net {
    /// A network with that many backends, which serve, and where every neighbour has been heard of.
    pub fn new(backends: u8) -> Self {
        Self::build(backends, Behind::Links, Listens::All)
    }

    pub fn build(backends: u8, behind: Behind, listens: Listens) -> Self {
        let topology = Topology::new(backends).unwrap();
        let mut net = Self {
            topology,
            client: Namespace::new(),
            balancer: Namespace::new(),
            backends: topology
                .backends()
                .map(|number| Backend {
                    number,
                    host: Namespace::new(),
                    router: (behind == Behind::Routers).then(Namespace::new),
                    serving: None,
                })
                .collect(),
        };
        join(&net.client, topology.client_end(), &net.balancer, topology.balancer_end_to_client());
        for number in 0..net.backends.len() {
            net.plug(number);
        }
        for backend in &mut net.backends {
            backend.serve(topology, listens);
        }
        net.settle();
        net
    }

    /// Joins a backend to the balancer.
    fn plug(&self, index: usize) {
        let (topology, backend) = (self.topology, &self.backends[index]);
        let number = backend.number;
        let end = topology.backend_end(number);
        let Some(router) = &backend.router else {
            return join(&backend.host, end, &self.balancer, topology.balancer_end_to_backend(number));
        };
        // The router has the address that backends know as the balancer's, and a transfer network before it.
        let transfer = move |host: u8| -> Vec<IpNet> {
            let texts =
                [format!("10.47.{}.{host}/24", 100 + number), format!("fd47:{number:x}00::{host}/64")];
            texts.map(|text| text.parse().unwrap()).into()
        };
        let towards = |ends: Vec<IpNet>| ends.into_iter().map(|net| net.addr()).collect::<Vec<_>>();
        let down = LinkEnd { name: "down".into(), ..topology.balancer_end_to_backend(number) };
        join(&backend.host, end, router, down);
        let up = LinkEnd {
            arrives_as: "fs-up".into(),
            name: "up".into(),
            addresses: transfer(2),
            neighbours: vec![],
            gateways: towards(transfer(1)),
        };
        let balancer_end = LinkEnd {
            arrives_as: format!("fs-to-{number}"),
            name: Topology::backend_name(number),
            addresses: transfer(1),
            neighbours: vec![],
            gateways: vec![],
        };
        join(router, up, &self.balancer, balancer_end);
        router.run(|| {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
            }
        });
        let addresses = FAMILIES.map(|family| topology.backend(family, number));
        self.balancer.netlink(move |net| {
            for (address, via) in addresses.into_iter().zip(towards(transfer(2))) {
                net.add_route(&Route::via(address.into(), via)).unwrap();
            }
        });
    }

    /// Waits until every packet would find its way at once: IPv6 gets ready a moment after its links, and
    /// the first packet to a neighbour waits until that has been heard of.
    fn settle(&self) {
        let hosts = self.backends.iter().flat_map(|backend| backend.router.iter().chain([&backend.host]));
        for host in hosts.chain([&self.client, &self.balancer]) {
            await_that("IPv6 gets ready", || host.run(ipv6_is_ready));
        }
        for family in FAMILIES {
            reach(&self.client, self.topology.client_router(family));
            for backend in &self.backends {
                reach(&self.balancer, self.topology.backend(family, backend.number));
            }
        }
    }

    /// Narrows the link next to a backend, at both its ends. The backend goes on telling its peers that it takes
    /// segments for a link of 1,500 bytes: so they have to find out.
    pub fn narrow_backend(&self, number: u8, mtu: u32) {
        let backend = &self.backends[usize::from(number) - 1];
        let (host, link) = match &backend.router {
            None => (&self.balancer, Topology::backend_name(number)),
            Some(router) => (router, "down".into()),
        };
        set_mtu(host, &link, mtu);
        set_mtu(&backend.host, "eth0", mtu);
        promise_1500(&backend.host, |family| self.topology.backend_router(family));
    }

    /// The same for the link next to the client.
    pub fn narrow_client(&self, mtu: u32) {
        set_mtu(&self.balancer, "client", mtu);
        set_mtu(&self.client, "eth0", mtu);
        promise_1500(&self.client, |family| self.topology.client_router(family));
    }

    /// Cuts the link to a backend and takes its namespace away, as a machine that loses power goes.
    pub fn lose(&mut self, number: u8) {
        let link = Topology::backend_name(number);
        self.balancer.netlink(move |net| net.delete_link(&link).unwrap());
        self.backends.retain(|backend| backend.number != number);
    }

    /// One try of the client's.
    pub fn attempt(&self, what: Try) -> Attempt {
        self.client.run(move || client::attempt(what))
    }
}

impl Backend {
    pub fn serve(&mut self, topology: Topology, listens: Listens) {
        let at = FAMILIES.map(|family| (topology.backend(family, self.number), BACKEND).into()).to_vec();
        let what = Serve {
            name: Topology::backend_name(self.number),
            udp_echo: if listens == Listens::All { at.clone() } else { vec![] },
            http: at,
            tcp_echo: vec![],
            ..Serve::default()
        };
        self.serving = Some(self.host.run(|| Serving::start(what).unwrap()));
    }
}

/// Asks again and again, for ten seconds at most.
pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn join(left: &Namespace, left_end: LinkEnd, right: &Namespace, right_end: LinkEnd) {
    let names = (left_end.arrives_as.clone(), right_end.arrives_as.clone());
    let pid = right.pid;
    left.netlink(move |net| {
        net.add_veth(&names.0, &names.1).unwrap();
        net.move_to_pid(&names.1, pid).unwrap();
    });
    for (host, end) in [(left, left_end), (right, right_end)] {
        host.netlink(move |net| set_up(net, &end));
    }
}

fn set_up(net: &Netlink, end: &LinkEnd) {
    net.rename(&end.arrives_as, &end.name).unwrap();
    net.set_up(&end.name).unwrap();
    for &address in &end.addresses {
        net.add_address(&end.name, address).unwrap();
    }
    for &neighbour in &end.neighbours {
        net.add_route(&Route::on(neighbour.into(), &end.name)).unwrap();
    }
    for &gateway in &end.gateways {
        let everywhere = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        net.add_route(&Route::via(everywhere.parse().unwrap(), gateway)).unwrap();
    }
}

fn set_mtu(host: &Namespace, link: &str, mtu: u32) {
    let link = link.to_owned();
    host.netlink(move |net| net.set_mtu(&link, mtu).unwrap());
}

/// Has a host announce the segment sizes of a link of 1,500 bytes on its default routes, whatever its link has.
fn promise_1500(host: &Namespace, gateway: impl Fn(Family) -> IpAddr) {
    for (family, option, segment) in [(Family::V4, "-4", 1460), (Family::V6, "-6", 1440)] {
        host.command(&format!("ip {option} route replace default via {} advmss {segment}", gateway(family)));
    }
}

/// Whether each link has its link-local address, from which a router asks for its neighbours, and packets to each
/// address are taken in.
fn ipv6_is_ready() -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
    let (addresses, links, routes) = (read("if_inet6"), read("dev"), read("ipv6_route"));
    let words = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let (addresses, routes) = (words(&addresses), words(&routes));
    let is_local = |address: &String| {
        routes.iter().any(|route| {
            // `RTF_LOCAL`
            let local = u32::from_str_radix(&route[8], 16).unwrap() & 0x8000_0000 != 0;
            route[0] == *address && route[1] == "80" && local
        })
    };
    let links = links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let mut links = links.filter(|&link| link != "lo");
    links.all(|link| addresses.iter().any(|address| address[5] == link && address[0].starts_with("fe80")))
        && addresses.iter().all(|address| is_local(&address[0]))
}

fn reach(from: &Namespace, to: IpAddr) {
    await_that(&format!("{to} answers"), || from.run(move || client::attempt(Try::Ping(to))).answered());
}
