//! The host's configuration: what it does, that it is taken back, and what may be in its way.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use fourseven::io::host::{Host, HostPlan};
use fourseven::io::{IoChoice, TunRequest, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::namespace::{Namespace, private};

pub fn ip(text: &str) -> IpAddr {
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

pub fn open_device() -> fourseven::io::Opened {
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
    let settings =
        namespace.command("sysctl -a --pattern ^net[.]ipv[46][.](conf[.]|ip_forward|ip_early_demux)");
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
            "packets to a VIP forwarded, whatever sockets are left there (net.ipv4.ip_early_demux = 0)",
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
            "net.ipv4.ip_early_demux=1",
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
