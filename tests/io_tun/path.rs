//! Whole ways through a balancer that does DNAT: what the host's rules lead back to the device, and what they
//! leave alone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fourseven::io::WorkerOptions;
use fourseven::io::host::{Host, HostPlan, Route};

use super::cores::Run;
use super::dnat::Dnat;
use super::host::{ip, open_device};
use super::namespace::{Namespace, private};

/// `client ── balancer ── router ── backend`, with DNAT in the balancer.
struct Path {
    client: Namespace,
    balancer: Namespace,
    router: Namespace,
    backend: Namespace,
    run: Run,
    host: Host,
    core: Dnat,
}

impl Path {
    fn new() -> Self {
        let [client, balancer, router, backend] = [(); 4].map(|()| Namespace::new());
        // Each pair of neighbours has a net 10.9.N.0/24 and fd09:N::/64, the left one .1 and the right one .2.
        for (net, left, right, near, far) in [
            (1, &client, &balancer, "right", "left"),
            (2, &balancer, &router, "right", "left"),
            (3, &router, &backend, "right", "left"),
        ] {
            let pid = right.pid;
            let addresses = move |host: u8| {
                [format!("10.9.{net}.{host}/24"), format!("fd09:{net}::{host}/64")]
                    .map(|address| address.parse().unwrap())
            };
            left.netlink(move |netlink| {
                netlink.add_veth(near, "moving").unwrap();
                netlink.move_to_pid("moving", pid).unwrap();
                netlink.set_up(near).unwrap();
                for address in addresses(1) {
                    netlink.add_address(near, address).unwrap();
                }
            });
            right.netlink(move |netlink| {
                netlink.rename("moving", far).unwrap();
                netlink.set_up(far).unwrap();
                for address in addresses(2) {
                    netlink.add_address(far, address).unwrap();
                }
            });
        }
        let route = |namespace: &Namespace, to: &'static str, via: &'static str| {
            namespace.netlink(move |net| net.add_route(&Route::via(to.parse().unwrap(), ip(via))).unwrap());
        };
        for (to, net) in [("0.0.0.0/0", 4), ("::/0", 6)] {
            let via = |v4, v6| if net == 4 { v4 } else { v6 };
            route(&client, to, via("10.9.1.2", "fd09:1::2"));
            route(&balancer, to, via("10.9.2.2", "fd09:2::2"));
            route(&router, to, via("10.9.2.1", "fd09:2::1"));
            route(&backend, to, via("10.9.3.1", "fd09:3::1"));
        }
        client.settle(&["right"], &["fd09:1::1"]);
        balancer.settle(&["left", "right"], &["fd09:1::2", "fd09:2::1"]);
        router.settle(&["left", "right"], &["fd09:2::2", "fd09:3::1"]);
        backend.settle(&["left"], &["fd09:3::2"]);
        router.command("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        // A strict filter, as distributions have it.
        balancer.command("sysctl -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
        let pairs = vec![(ip("10.47.0.1"), ip("10.9.3.2")), (ip("fd47::1"), ip("fd09:3::2"))];
        let core = Dnat { pairs, stranger: Some(ip("10.9.1.9")), ..Dnat::default() };
        let (run, host) = balancer.run({
            let core = core.clone();
            move || {
                let run = Run::start(open_device(), &core, WorkerOptions::default());
                let plan = HostPlan {
                    device: "fs0".into(),
                    vips: vec![ip("10.47.0.1"), ip("fd47::1")],
                    dnat_backends: vec![ip("10.9.3.2"), ip("fd09:3::2")],
                    ..HostPlan::default()
                };
                let host = Host::configure(&plan).unwrap();
                assert_eq!(host.warnings(), Vec::<String>::new());
                (run, host)
            }
        });
        Self { client, balancer, router, backend, run, host, core }
    }

    /// A megabyte each way between the client and the backend, which is told who the client is.
    fn transfer(&self, vip: &'static str, client: &'static str) {
        const LENGTH: usize = 1_000_000;
        let (tell, listening) = mpsc::channel();
        let any = if vip.contains(':') { "::" } else { "0.0.0.0" };
        let listener = self.backend.run(move || TcpListener::bind((any, 0)).unwrap());
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            tell.send(()).unwrap();
            let (mut stream, peer) = listener.accept().unwrap();
            assert_eq!(peer.ip(), ip(client));
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut data = vec![0; LENGTH];
            stream.read_exact(&mut data).unwrap();
            assert!(data.iter().all(|&byte| byte == 7));
            stream.write_all(&vec![8; LENGTH]).unwrap();
        });
        listening.recv().unwrap();
        self.client.run(move || {
            let address = (ip(vip), port).into();
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&vec![7; LENGTH]).unwrap();
            let mut data = Vec::new();
            stream.read_to_end(&mut data).unwrap();
            assert!(data.len() == LENGTH && data.iter().all(|&byte| byte == 8));
        });
        server.join().unwrap();
    }

    fn end(self) {
        self.run.stop();
        let host = self.host;
        self.balancer.run(|| assert_eq!(host.undo().len(), 0));
    }
}

const FAMILIES: [(&str, &str); 2] = [("10.47.0.1", "10.9.1.1"), ("fd47::1", "fd09:1::1")];

#[test]
fn backends_answer_through_the_device_and_neighbours_are_found_past_it() {
    private("path::backends_answer_through_the_device_and_neighbours_are_found_past_it", || {
        let path = Path::new();
        for (vip, client) in FAMILIES {
            path.client.command(&format!("ping -c 1 -W 2 {vip}"));
            path.transfer(vip, client);
        }
        // A backend that talks to somebody else: the balancer passes it on, and it must not come back.
        path.client.netlink(|net| net.add_address("right", "10.9.1.9/32".parse().unwrap()).unwrap());
        let before = path.run.totals().received;
        path.backend.command("ping -c 1 -W 2 10.9.1.9");
        let came = path.run.totals().received - before;
        assert!(came < 10, "it came by {came} times");
        // The host's own pings, and those that cross it, with neighbours that are to be found anew.
        for namespace in [&path.balancer, &path.router, &path.client] {
            namespace.command("ip neigh flush all");
            namespace.command("ip -6 neigh flush all");
        }
        path.core.foreign_icmp.lock().unwrap().clear();
        for target in ["10.9.1.1", "10.9.2.2", "fd09:1::1", "fd09:2::2"] {
            path.balancer.command(&format!("ping -c 1 -W 2 {target}"));
        }
        assert_eq!(
            *path.core.foreign_icmp.lock().unwrap(),
            [],
            "the host's own pings stay clear of the device"
        );
        for (from, target) in
            [(&path.client, "10.9.2.2"), (&path.client, "fd09:2::2"), (&path.router, "fd09:1::1")]
        {
            from.command(&format!("ping -c 1 -W 2 {target}"));
        }
        let link_local = path.router.command("ip -6 -o addr show dev left scope link");
        let link_local = link_local.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
        path.balancer.command(&format!("ping -c 1 -W 2 {link_local}%right"));
        let foreign = path.core.foreign_icmp.lock().unwrap().clone();
        assert!(foreign.iter().all(|&(v4, kind)| v4 || !(133..=137).contains(&kind)), "{foreign:?}");
        path.end();
    });
}

#[test]
fn a_smaller_mtu_is_reported_to_the_client_whoever_finds_it() {
    private("path::a_smaller_mtu_is_reported_to_the_client_whoever_finds_it", || {
        // Where the narrow link is, and who must be told. Whoever is at its end must not give it away, in the size of
        // the segments that it asks for; a veth drops what is longer than its own MTU, so both its ends are narrow.
        for (name, narrow) in [("the host", 0), ("a router", 1), ("the host, towards the client", 2)] {
            for (vip, client) in FAMILIES {
                let path = Path::new();
                let ends = match narrow {
                    0 => [(&path.balancer, "right"), (&path.router, "left")],
                    1 => [(&path.router, "right"), (&path.backend, "left")],
                    _ => [(&path.client, "right"), (&path.balancer, "left")],
                };
                for (namespace, link) in ends {
                    namespace.netlink(move |net| net.set_mtu(link, 1300).unwrap());
                }
                for (namespace, v4, v6) in
                    [(&path.client, "10.9.1.2", "fd09:1::2"), (&path.backend, "10.9.3.1", "fd09:3::1")]
                {
                    namespace.command(&format!("ip route change default via {v4} advmss 1460"));
                    namespace.command(&format!("ip -6 route change default via {v6} advmss 1440"));
                }
                path.transfer(vip, client);
                let too_big = if vip.contains(':') { (false, 2) } else { (true, 3) };
                let errors = path.core.errors.lock().unwrap().clone();
                assert!(errors.contains(&too_big), "{name}, {vip}: {errors:?}");
                let knows = if narrow == 2 { &path.backend } else { &path.client };
                let of = if narrow == 2 { client } else { vip };
                let route = knows.command(&format!("ip route get {of}"));
                assert!(route.contains("mtu 1300"), "{name}, {vip}: {route}");
                path.end();
            }
        }
    });
}

#[test]
fn a_backend_that_is_not_there_is_reported_to_the_client() {
    private("path::a_backend_that_is_not_there_is_reported_to_the_client", || {
        let path = Path::new();
        // The router finds nobody at the address, and says so about a packet that the balancer sent.
        path.backend.command("ip addr flush dev left");
        for (vip, _) in FAMILIES {
            let said = path.client.try_command(&format!("ping -c 1 -W 5 {vip}")).1;
            assert!(said.contains("nreachable"), "{said}");
        }
        assert!(path.core.errors.lock().unwrap().len() >= 2);
        path.end();
    });
}
