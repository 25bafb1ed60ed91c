//! However a balancer ends, the next one in its place starts at once, and works.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use fourseven::lab::topology::HTTP;
use fourseven::packet::Family;
use nix::sys::signal::Signal;

use super::balancer::{Balancer, NATS, flags};
use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net};
use super::traffic::{PATIENCE, download};

/// All that a run changes on its host, a line each.
struct Host {
    settings: Vec<String>,
    routing: Vec<String>,
}

impl Host {
    fn of(host: &Namespace) -> Self {
        let routing = ["rule", "route show table all", "addr", "link"]
            .into_iter()
            .flat_map(|what| ["-4", "-6"].map(|family| host.command(&format!("ip -o {family} {what}"))));
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        Self { settings: host.run(settings), routing: routing.flat_map(lines).collect() }
    }

    /// What is here now and was not there before, and the other way round.
    fn differs(&self, before: &Self) -> Vec<String> {
        let mut differs = only_in(&self.settings, &before.settings);
        differs.extend(only_in(&before.settings, &self.settings));
        differs.extend(self.is_routed_otherwise(before));
        differs
    }

    /// The same for the rest but settings. A host that forwards has an anycast address of each subnet (RFC 4291 §2.6.1),
    /// and so a run that finds it forwarding leaves it with them.
    fn is_routed_otherwise(&self, before: &Self) -> Vec<String> {
        let mut differs = only_in(&self.routing, &before.routing);
        differs.extend(only_in(&before.routing, &self.routing));
        differs.retain(|line| !line.starts_with("anycast "));
        differs
    }
}

fn only_in(some: &[String], others: &[String]) -> Vec<String> {
    some.iter().filter(|line| !others.contains(line)).cloned().collect()
}

fn settings() -> Vec<String> {
    let net = "/proc/sys/net";
    let mut files: Vec<String> =
        ["ipv4/ip_forward", "ipv4/ip_early_demux", "ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"]
            .map(|name| format!("{net}/{name}"))
            .into();
    for (family, names) in [
        ("ipv4", &["forwarding", "rp_filter", "accept_local", "accept_redirects"][..]),
        ("ipv6", &["forwarding", "disable_ipv6"]),
    ] {
        let folder = format!("{net}/{family}/conf");
        for link in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()) {
            files.extend(names.iter().map(|name| format!("{folder}/{}/{name}", link.to_str().unwrap())));
        }
    }
    files.sort();
    files.iter().map(|file| format!("{file} = {}", fs::read_to_string(file).unwrap().trim())).collect()
}

fn web(net: &Net, family: Family) -> SocketAddr {
    SocketAddr::new(net.topology.vip(family), HTTP)
}

fn works(net: &Net) {
    for web in FAMILIES.map(|family| web(net, family)) {
        net.client.run(move || download(web, 10_000)).unwrap_or_else(|error| panic!("{web}: {error}"));
    }
}

/// Connections that are open, and have sent half a request.
fn half_way(net: &Net) -> [TcpStream; 2] {
    FAMILIES.map(|family| {
        let web = web(net, family);
        net.client.run(move || {
            let mut stream = TcpStream::connect_timeout(&web, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream
        })
    })
}

/// Whether a connection that no balancer knows any more is told so.
fn is_reset(mut stream: TcpStream) -> bool {
    stream.write_all(b"host: vip\r\n\r\n").unwrap();
    stream.read(&mut [0]).map_err(|error| error.kind()) == Err(io::ErrorKind::ConnectionReset)
}

#[test]
fn signals_end_it_with_its_report_and_the_host_as_it_was() {
    private("ends::signals_end_it_with_its_report_and_the_host_as_it_was", || {
        let net = Net::new(2);
        // What a strict filter becomes, it must not stay.
        net.balancer.run(|| fs::write("/proc/sys/net/ipv4/conf/backend-1/rp_filter", "1").unwrap());
        let before = Host::of(&net.balancer);
        for nat in NATS {
            for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
                let balancer = Balancer::start(&net, nat, &["--io=offload", "--queues=2"]);
                assert!(Host::of(&net.balancer).differs(&before).len() > 10, "{nat}");
                let open = half_way(&net);
                works(&net);
                balancer.signal(signal);
                let (status, out, said) = balancer.end();
                assert_eq!(status.code(), Some(0), "{nat} {signal}: {said}");
                assert!(out.contains("\"agree\":true"), "{nat} {signal}: {out}");
                assert_eq!(Host::of(&net.balancer).differs(&before), [""; 0], "{nat} {signal}");
                drop(open);
            }
        }
    });
}

#[test]
fn signals_that_come_together_are_one() {
    private("ends::signals_that_come_together_are_one", || {
        let net = Net::new(1);
        let before = Host::of(&net.balancer);
        for (first, second) in [(Signal::SIGINT, Signal::SIGTERM), (Signal::SIGTERM, Signal::SIGHUP)] {
            let balancer = Balancer::start(&net, "dnat", &[]);
            balancer.signal(first);
            balancer.signal(second);
            let (status, out, said) = balancer.end();
            assert_eq!(status.code(), Some(0), "{first} {second}: {said}");
            assert!(out.contains("\"agree\":true"), "{first} {second}: {out}");
            assert_eq!(Host::of(&net.balancer).differs(&before), [""; 0], "{first} {second}");
        }
    });
}

#[test]
fn killed_it_leaves_nothing_that_keeps_the_next_from_working() {
    private("ends::killed_it_leaves_nothing_that_keeps_the_next_from_working", || {
        let net = Net::new(2);
        let before = Host::of(&net.balancer);
        for nat in NATS {
            let mut open = None;
            for _ in 0..3 {
                let balancer = Balancer::start(&net, nat, &["--io=offload", "--queues=2"]);
                for stream in open.into_iter().flatten() {
                    assert!(is_reset(stream), "{nat}");
                }
                open = Some(half_way(&net));
                works(&net);
                balancer.signal(Signal::SIGKILL);
                let (status, _, said) = balancer.end();
                assert!(!status.success(), "{nat}: {said}");
            }
            // The last ends well, and takes along what the others have left, but for settings: how they
            // were before the first, it cannot know.
            let balancer = Balancer::start(&net, nat, &["--io=plain"]);
            works(&net);
            balancer.stop();
            assert_eq!(Host::of(&net.balancer).is_routed_otherwise(&before), [""; 0], "{nat}");
        }
    });
}

#[test]
fn with_dnat_and_a_hash_connections_outlive_the_balancer() {
    private("ends::with_dnat_and_a_hash_connections_outlive_the_balancer", || {
        let net = Net::new(3);
        for scheduler in ["--scheduler=mh", "--scheduler=sh"] {
            let start = || Balancer::start(&net, "dnat", &[scheduler, "--io=offload", "--queues=2"]);
            let balancer = start();
            let open: Vec<_> = (0..4).flat_map(|_| half_way(&net)).collect();
            balancer.signal(Signal::SIGKILL);
            balancer.end();
            let balancer = start();
            for mut stream in open {
                stream.write_all(b"host: vip\r\nconnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{scheduler}: {answer}");
            }
            assert_eq!(balancer.stop().reason("forwarded", "adopted_flow"), 8, "{scheduler}");
        }
    });
}

#[test]
fn a_terminal_that_goes_is_ignored_where_that_was_asked_for() {
    private("ends::a_terminal_that_goes_is_ignored_where_that_was_asked_for", || {
        let net = Net::new(1);
        let arguments = flags(net.topology, "full");
        let mut balancer = Balancer::spawn_by(&net.balancer, &["env", "--ignore-signal=HUP"], arguments);
        balancer.await_line("ready: ");
        balancer.signal(Signal::SIGHUP);
        balancer.report();
        works(&net);
        balancer.stop();
    });
}

#[test]
fn a_device_that_is_deleted_under_it_ends_it_with_that_message_and_the_host_as_it_was() {
    let name = "ends::a_device_that_is_deleted_under_it_ends_it_with_that_message_and_the_host_as_it_was";
    private(name, || {
        let net = Net::new(2);
        let before = Host::of(&net.balancer);
        for (nat, io) in [("full", "--io=plain"), ("dnat", "--io=offload"), ("dnat", "--queues=2")] {
            let balancer = Balancer::start(&net, nat, &[io]);
            works(&net);
            net.balancer.netlink(|netlink| netlink.delete_link("fs0").unwrap());
            let (status, out, said) = balancer.end();
            assert_eq!(status.code(), Some(1), "{nat} {io}: {said}");
            assert!(said.contains("fs0 is gone"), "{nat} {io}: {said}");
            assert!(!said.contains("warning"), "{nat} {io}: {said}");
            assert!(out.contains("\"agree\":true"), "{nat} {io}: {out}");
            assert_eq!(Host::of(&net.balancer).differs(&before), [""; 0], "{nat} {io}");
        }
    });
}
