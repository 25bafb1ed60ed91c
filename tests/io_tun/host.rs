//! The host's configuration: what it does, that it is taken back, and what may be in its way.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fourseven::io::host::{Host, HostPlan, Route};
use fourseven::io::{IoChoice, TunRequest, WorkerOptions, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::cores::Run;
use super::dnat::Dnat;
use super::namespace::{Namespace, private};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn plan() -> HostPlan {
    HostPlan {
        device: "fs0".into(),
        mtu: Some(1400),
        vips: vec![ip("10.47.0.1"), ip("fd47::1")],
        locals: vec!["10.47.3.0/24".parse().unwrap(), "fd47:3::/64".parse().unwrap()],
        dnat_backends: vec![ip("10.47.2.2"), ip("10.47.2.3"), ip("fd47:2::2")],
    }
}

/// A network namespace with a link on which backends might be.
fn balancer() -> Namespace {
    let namespace = Namespace::new();
    namespace.netlink(|net| {
        net.add_veth("veth", "peer").unwrap();
        for link in ["veth", "peer"] {
            net.set_up(link).unwrap();
        }
        net.add_address("veth", "10.47.2.1/24".parse().unwrap()).unwrap();
        net.add_address("veth", "fd47:2::1/64".parse().unwrap()).unwrap();
    });
    let settled =
        |addresses: String| addresses.matches("fe80::").count() == 2 && !addresses.contains("tentative");
    while !settled(namespace.command("ip -6 addr show")) {
        thread::sleep(Duration::from_millis(10));
    }
    namespace
}

fn open_device() -> fourseven::io::Opened {
    open(&TunRequest { name: "fs0".into(), io: IoChoice::Auto, queues: 1 }).unwrap()
}

/// What differs, since the whole is too long to be looked at.
fn assert_same(namespace: &Namespace, before: &str) {
    let after = snapshot(namespace);
    let only_in = |some: &str, other: &str| {
        let others: Vec<_> = other.lines().collect();
        some.lines().filter(|line| !others.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((only_in(before, &after), only_in(&after, before)), (vec![], vec![]), "(before, after)");
    assert!(before == after, "the order differs");
}

/// All that could have been changed, as text, once nothing moves any more.
fn snapshot(namespace: &Namespace) -> String {
    let mut last = snapshot_now(namespace);
    loop {
        thread::sleep(Duration::from_millis(20));
        let now = snapshot_now(namespace);
        if now == last {
            return now;
        }
        last = now;
    }
}

fn snapshot_now(namespace: &Namespace) -> String {
    let mut all = String::new();
    for family in ["-4", "-6"] {
        for what in ["route show table all", "rule", "addr"] {
            all += &namespace.command(&format!("ip -j -p {family} {what}"));
        }
    }
    // Times to live of addresses and routes count down.
    let settings = namespace.command("sysctl -a --pattern ^net[.]ipv[46][.](conf[.]|ip_forward)");
    let steady = |line: &&str| {
        !line.contains("expires") && !line.contains("stable_secret") && !line.contains("fs0.addr_gen_mode")
    };
    all + &settings.lines().filter(steady).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_configured_is_told_works_and_is_taken_back() {
    private("host::what_is_configured_is_told_works_and_is_taken_back", || {
        let namespace = balancer();
        // Values that forwarding would carry away with it, and must bring back.
        namespace.command("sysctl -w net.ipv4.conf.veth.forwarding=1 net.ipv4.conf.all.accept_redirects=0");
        namespace.command("sysctl -w net.ipv6.conf.peer.forwarding=1");
        let _device = namespace.run(open_device);
        let before = snapshot(&namespace);
        let host = namespace.run(|| Host::configure(&plan()).unwrap());
        let changes: Vec<_> = host.changes().collect();
        println!("{}", changes.join("\n"));
        for expected in [
            "MTU 1400 on fs0",
            "fs0 up",
            "loose reverse-path filter on fs0 (net.ipv4.conf.fs0.rp_filter = 2)",
            "IPv4 forwarding (net.ipv4.ip_forward = 1)",
            "IPv6 forwarding (net.ipv6.conf.all.forwarding = 1)",
            "route 10.47.0.1/32 to fs0",
            "route fd47::1/128 to fs0",
            "route 10.47.3.0/24 to fs0",
            "route fd47:3::/64 to fs0",
            "rule 4702: what comes from 10.47.2.3 goes to fs0",
            "rule 4703: ICMPv6 errors of this host, types 1 to 4, go to fs0",
            "rule 4704: ICMP that comes in on veth and goes on goes to fs0",
        ] {
            assert!(changes.contains(&expected), "{expected}");
        }
        assert_eq!(host.warnings(), Vec::<String>::new());
        for (question, answer) in [
            ("10.47.0.1", "dev fs0"),
            ("10.47.3.77", "dev fs0"),
            ("fd47::1", "dev fs0"),
            ("10.47.2.9", "dev veth"),
            ("10.47.2.9 ipproto icmp", "dev veth"),
            ("198.51.100.1 from 10.47.2.2 iif veth", "dev fs0"),
            ("198.51.100.1 ipproto icmp dport 772", "dev fs0"),
        ] {
            let route = namespace.command(&format!("ip route get {question}"));
            assert!(route.contains(answer), "{question}: {route}");
        }
        assert_eq!(
            namespace.run(|| host.undo().into_iter().map(|error| error.to_string()).collect::<Vec<_>>()),
            [""; 0]
        );
        assert_same(&namespace, &before);
    });
}

#[test]
fn what_was_so_before_is_left_alone_and_undoing_does_not_miss_a_device_that_is_gone() {
    private("host::what_was_so_before_is_left_alone_and_undoing_does_not_miss_a_device_that_is_gone", || {
        let namespace = balancer();
        let before = snapshot(&namespace);
        let device = namespace.run(open_device);
        let host = namespace.run(|| Host::configure(&plan()).unwrap());
        let again = namespace.run(|| Host::configure(&HostPlan { dnat_backends: vec![], ..plan() }).unwrap());
        // The rules of the first are those of a run on the same device, which cannot be alive.
        let changes: Vec<_> = again.changes().collect();
        assert_eq!(changes, ["12 routing rules removed, which an earlier run had left behind"]);
        drop(device);
        let errors = namespace.run(|| {
            [again.undo(), host.undo()]
                .into_iter()
                .flatten()
                .map(|error| error.to_string())
                .collect::<Vec<_>>()
        });
        assert_eq!(errors, [""; 0]);
        assert_same(&namespace, &before);
    });
}

#[test]
fn what_a_killed_run_has_left_is_taken_over() {
    private("host::what_a_killed_run_has_left_is_taken_over", || {
        let namespace = balancer();
        let device = namespace.run(open_device);
        let before = snapshot(&namespace);
        // Killed: the device goes, and nobody undoes the rest.
        namespace.run(|| std::mem::forget(Host::configure(&plan()).unwrap()));
        drop(device);
        assert!(namespace.command("ip rule").contains("lookup 4747"));
        let _device = namespace.run(open_device);
        let other = HostPlan { dnat_backends: vec![ip("10.47.2.7")], ..plan() };
        let host = namespace.run(move || Host::configure(&other).unwrap());
        let rules = namespace.command("ip rule");
        assert!(rules.contains("10.47.2.7") && !rules.contains("10.47.2.2"), "{rules}");
        assert!(
            host.changes()
                .any(|change| change == "12 routing rules removed, which an earlier run had left behind")
        );
        namespace.run(|| assert_eq!(host.undo().len(), 0));
        // Forwarding was on already, for all that the second run can know.
        for setting in [
            "net.ipv4.ip_forward=0",
            "net.ipv6.conf.all.forwarding=0",
            "net.ipv4.conf.all.accept_redirects=1",
        ] {
            namespace.command(&format!("sysctl -w {setting}"));
        }
        assert_same(&namespace, &before);
    });
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_left_half_done() {
    private("host::what_is_in_the_way_is_named_and_nothing_is_left_half_done", || {
        let own_vip = HostPlan { vips: vec![ip("10.47.2.1")], ..plan() };
        let own_backend = HostPlan { dnat_backends: vec![ip("fd47:2::1")], ..plan() };
        let taken = HostPlan { locals: vec!["10.47.2.0/24".parse().unwrap()], ..plan() };
        let small = HostPlan { mtu: Some(1000), ..plan() };
        let nowhere = HostPlan { device: "fs9".into(), ..plan() };
        for (plan, expected) in [
            (own_vip, "cannot route 10.47.2.1 to fs0: it is an address of this host itself, on veth"),
            (
                own_backend,
                "cannot lead what fd47:2::1 sends back to fs0: it is an address of this host itself, on veth",
            ),
            (taken, "cannot add the route 10.47.2.0/24 to fs0: there is one already, which leads to veth"),
            (small, "cannot set the MTU of fs0 to 1000: IPv6 asks for 1280 at least"),
            (nowhere, "cannot send packets to fs9: there is no link of the name fs9"),
        ] {
            let namespace = balancer();
            let _device = namespace.run(open_device);
            let before = snapshot(&namespace);
            let said = namespace.run(move || Host::configure(&plan).map(drop).unwrap_err().to_string());
            assert!(said.starts_with(expected), "{said}");
            assert_same(&namespace, &before);
        }
    });
}

#[test]
fn addresses_on_a_net_of_the_hosts_own_are_warned_of() {
    private("host::addresses_on_a_net_of_the_hosts_own_are_warned_of", || {
        let namespace = balancer();
        let _device = namespace.run(open_device);
        let plan = HostPlan {
            device: "fs0".into(),
            vips: vec![ip("10.47.2.100"), ip("fd47:2::100"), ip("10.47.0.1")],
            locals: vec!["10.47.2.0/28".parse().unwrap()],
            ..HostPlan::default()
        };
        let warnings = namespace.run(move || Host::configure(&plan).unwrap().warnings().join("\n"));
        for expected in [
            "10.47.2.1, which is among the local addresses 10.47.2.0/28, is an address of this host itself, on veth",
            "10.47.2.100/32 is in 10.47.2.0/24, the net on veth, whose hosts ask for it there and get no answer \
             (with `sysctl -w net.ipv4.conf.veth.proxy_arp=1` this host answers for it)",
            "fd47:2::100/128 is in fd47:2::/64, the net on veth",
        ] {
            assert!(warnings.contains(expected), "{warnings}");
        }
        assert!(!warnings.contains("10.47.0.1"), "{warnings}");
    });
}

#[test]
fn a_second_balancer_with_dnat_is_refused_and_the_first_keeps_its_rules() {
    private("host::a_second_balancer_with_dnat_is_refused_and_the_first_keeps_its_rules", || {
        let namespace = balancer();
        let _device = namespace.run(open_device);
        let _first = namespace.run(|| Host::configure(&plan()).unwrap());
        let before = snapshot(&namespace);
        let (said, other) = namespace.run(|| {
            let other = open(&TunRequest { name: "fs1".into(), io: IoChoice::Auto, queues: 1 }).unwrap();
            let plan =
                HostPlan { device: "fs1".into(), vips: vec![ip("10.47.0.9")], locals: vec![], ..plan() };
            (Host::configure(&plan).map(drop).unwrap_err().to_string(), other)
        });
        assert!(
            said.contains(
                "routing table 4747 leads to fs0 (another balancer with `nat = \"dnat\"` runs here)"
            ),
            "{said}"
        );
        drop(other);
        assert_same(&namespace, &before);
    });
}

#[test]
fn settings_that_cannot_be_written_are_warned_of_with_the_command_that_sets_them() {
    private("host::settings_that_cannot_be_written_are_warned_of_with_the_command_that_sets_them", || {
        let namespace = balancer();
        let _device = namespace.run(open_device);
        let (host, warnings) = namespace.run(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
            let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(none, "/proc/sys", none, read_only, none).unwrap();
            let host = Host::configure(&plan()).unwrap();
            let warnings = host.warnings().join("\n");
            (host, warnings)
        });
        for setting in
            ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.fs0.rp_filter=2"]
        {
            assert!(warnings.contains(&format!("`sysctl -w {setting}`")), "{warnings}");
        }
        assert!(host.changes().any(|change| change == "route 10.47.0.1/32 to fs0"));
        namespace.run(|| assert_eq!(host.undo().len(), 0));
    });
}

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
    private("host::backends_answer_through_the_device_and_neighbours_are_found_past_it", || {
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
    private("host::a_smaller_mtu_is_reported_to_the_client_whoever_finds_it", || {
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
    private("host::a_backend_that_is_not_there_is_reported_to_the_client", || {
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
