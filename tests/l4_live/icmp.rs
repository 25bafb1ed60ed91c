//! ICMP errors about a flow's packets cross the balancer, and reach the socket that they are about.

use std::io;
use std::net::{IpAddr, SocketAddr};

use fourseven::lab::topology::{ECHO, HTTP};
use socket2::{Domain, Socket, Type};

use super::balancer::{Balancer, NATS};
use super::namespace::{Namespace, private};
use super::net::{Behind, FAMILIES, Listens, Net};
use super::traffic::{PATIENCE, datagrams, download, exchange, pattern, upload};

const QUEUES: [&[&str]; 2] = [&["--io=plain"], &["--io=offload", "--queues=2"]];
const LENGTH: usize = 1_000_000;
const NARROW: u32 = 1400;

/// The MTU of the path to an address, where the kernel has learned one that is not its link's.
fn learned_mtu(host: &Namespace, to: IpAddr) -> Option<u32> {
    let route = host.command(&format!("ip -o route get {to}"));
    let mut words = route.split_whitespace().skip_while(|&word| word != "mtu");
    route.contains("expires").then(|| words.nth(1)?.parse().ok())?
}

/// Uploads where the narrow link is next to the backend: the errors are about what comes from the client.
fn uploads_learn(name: &str, behind: Behind) {
    private(name, || {
        for (nat, queues) in NATS.into_iter().flat_map(|nat| QUEUES.map(|queues| (nat, queues))) {
            let net = Net::build(1, behind, Listens::All);
            net.narrow_backend(1, NARROW);
            let balancer = Balancer::start(&net, nat, queues);
            for family in FAMILIES {
                let vip = net.topology.vip(family);
                let case = format!("{nat} {queues:?} {vip}");
                assert_eq!(learned_mtu(&net.client, vip), None, "{case}: before");
                let web = SocketAddr::new(vip, HTTP);
                let both = net.client.run(move || upload(web, LENGTH).and_then(|()| download(web, LENGTH)));
                both.unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(learned_mtu(&net.client, vip), Some(NARROW), "{case}: after");
            }
            let report = balancer.stop();
            assert!(report.reason("forwarded", "icmp_error") >= 2, "{}", report.0);
            assert_eq!(report.dropped(), [], "{nat} {queues:?}");
        }
    });
}

#[test]
fn uploads_learn_the_mtu_of_a_link_of_the_balancers_host() {
    uploads_learn("icmp::uploads_learn_the_mtu_of_a_link_of_the_balancers_host", Behind::Links);
}

#[test]
fn uploads_learn_the_mtu_of_a_link_behind_a_router() {
    uploads_learn("icmp::uploads_learn_the_mtu_of_a_link_behind_a_router", Behind::Routers);
}

#[test]
fn downloads_learn_the_mtu_of_a_link_next_to_the_client() {
    private("icmp::downloads_learn_the_mtu_of_a_link_next_to_the_client", || {
        for (nat, queues) in NATS.into_iter().flat_map(|nat| QUEUES.map(|queues| (nat, queues))) {
            let net = Net::new(1);
            net.narrow_client(NARROW);
            let balancer = Balancer::start(&net, nat, queues);
            for family in FAMILIES {
                let web = SocketAddr::new(net.topology.vip(family), HTTP);
                let case = format!("{nat} {queues:?} {web}");
                let both = net.client.run(move || download(web, LENGTH).and_then(|()| upload(web, LENGTH)));
                both.unwrap_or_else(|error| panic!("{case}: {error}"));
                if nat == "dnat" {
                    let learned = learned_mtu(&net.backends[0].host, net.topology.client(family));
                    assert_eq!(learned, Some(NARROW), "{case}");
                }
            }
            let report = balancer.stop();
            assert!(report.reason("forwarded", "icmp_error") >= 2, "{}", report.0);
            assert_eq!(report.dropped(), [], "{nat} {queues:?}");
        }
    });
}

#[test]
fn a_closed_port_of_a_backend_is_an_error_of_the_clients_socket() {
    private("icmp::a_closed_port_of_a_backend_is_an_error_of_the_clients_socket", || {
        let net = Net::build(1, Behind::Links, Listens::Http);
        for nat in NATS {
            let balancer = Balancer::start(&net, nat, &[]);
            for family in FAMILIES {
                let echo = SocketAddr::new(net.topology.vip(family), ECHO);
                // Once short, once so long that the error cannot quote it whole.
                for length in [4, 1400] {
                    let end = net.client.run(move || exchange(&datagrams(echo)?, &pattern(length)));
                    let kind = end.unwrap_err().kind();
                    assert_eq!(kind, io::ErrorKind::ConnectionRefused, "{nat} {echo} {length}");
                }
            }
            let report = balancer.stop();
            assert_eq!(report.reason("forwarded", "icmp_error"), 4, "{nat}");
        }
    });
}

/// Connects with packets that may pass so many routers.
fn connect_within(hops: u32, to: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    if to.is_ipv4() {
        socket.set_ttl_v4(hops)?;
    } else {
        socket.set_unicast_hops_v6(hops)?;
    }
    socket.connect_timeout(&to.into(), PATIENCE)
}

#[test]
fn a_packet_that_has_passed_too_many_routers_is_an_error_of_the_clients_socket() {
    private("icmp::a_packet_that_has_passed_too_many_routers_is_an_error_of_the_clients_socket", || {
        let net = Net::new(1);
        for nat in NATS {
            let balancer = Balancer::start(&net, nat, &[]);
            for family in FAMILIES {
                let web = SocketAddr::new(net.topology.vip(family), HTTP);
                // The first router is the balancer's host, the second the balancer itself, the third the host again.
                for hops in 1..=3 {
                    let end = net.client.run(move || connect_within(hops, web));
                    let kind = end.unwrap_err().kind();
                    assert_eq!(kind, io::ErrorKind::HostUnreachable, "{nat} {web}, {hops} hops");
                }
                net.client.run(move || connect_within(4, web)).unwrap();
            }
            let report = balancer.stop();
            assert_eq!(report.reason("answered", "ttl_expired"), 2, "{nat}");
            assert_eq!(report.reason("forwarded", "icmp_error"), 2, "{nat}");
        }
    });
}
