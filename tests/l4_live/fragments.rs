//! Datagrams that are longer than a packet: they come in pieces, and leave in pieces.

use std::net::SocketAddr;
use std::thread;

use fourseven::lab::topology::ECHO;

use super::balancer::{Balancer, NATS};
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::traffic::{datagrams, exchange, pattern};

#[test]
fn datagrams_and_pings_longer_than_a_packet_get_through_in_pieces_both_ways() {
    private("fragments::datagrams_and_pings_longer_than_a_packet_get_through_in_pieces_both_ways", || {
        let net = Net::new(2);
        // A receiver gives a datagram up where more than 64 pieces of others come between its own (`ip-sysctl`), as
        // may happen here: all of them are from one address.
        for host in net.backends.iter().map(|backend| &backend.host).chain([&net.client]) {
            host.run(|| std::fs::write("/proc/sys/net/ipv4/ipfrag_max_dist", "0").unwrap());
        }
        let all = [&["--io=plain"][..], &["--io=offload"], &["--io=offload", "--queues=2"]];
        for (nat, queues) in NATS.into_iter().flat_map(|nat| all.map(|queues| (nat, queues))) {
            let balancer = Balancer::start(&net, nat, queues);
            for family in FAMILIES {
                let echo = SocketAddr::new(net.topology.vip(family), ECHO);
                // Some at a time, so that pieces of several datagrams are under way together, on all queues.
                let exchanged = net.client.run(move || {
                    let clients = [8_000; 7]
                        .into_iter()
                        .chain([60_000])
                        .map(|length| thread::spawn(move || exchange(&datagrams(echo)?, &pattern(length))));
                    let clients: Vec<_> = clients.collect();
                    clients.into_iter().try_for_each(|client| client.join().unwrap())
                });
                exchanged.unwrap_or_else(|error| panic!("{nat} {queues:?} {echo}: {error}"));
                // The balancer answers this one itself, a piece at a time.
                net.client.command(&format!("ping -c 1 -W 5 -s 8000 {}", echo.ip()));
            }
            let report = balancer.stop();
            assert_eq!(report.dropped(), [], "{nat} {queues:?}");
            // In each family, each way: 7 datagrams of 6 pieces, and one of 41 or 42.
            assert!(report.reason("forwarded", "fragment") >= 4 * (7 * 5 + 40), "{}", report.0);
        }
    });
}
