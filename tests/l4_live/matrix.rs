//! Everything that balances, in every combination: family, NAT, kind of queue, number of queues.

use std::net::SocketAddr;

use fourseven::lab::attempt::Try;
use fourseven::lab::topology::{ECHO, HTTP};

use super::balancer::Balancer;
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::traffic::{datagrams, download, exchange, pattern, upload};

const QUEUES: [&[&str]; 3] = [&["--io=plain"], &["--io=offload"], &["--io=offload", "--queues=2"]];
const LENGTH: usize = 10_000_000;

/// 10 MB each way over TCP, datagrams from none to all that fits into a packet, and pings.
fn everything_gets_through(nat: &str) {
    let net = Net::new(2);
    for queues in QUEUES {
        let balancer = Balancer::start(&net, nat, queues);
        for family in FAMILIES {
            let vip = net.topology.vip(family);
            let case = format!("{queues:?} {vip}");
            let web = SocketAddr::new(vip, HTTP);
            net.client.run(move || upload(web, LENGTH)).unwrap_or_else(|error| panic!("{case}: {error}"));
            net.client.run(move || download(web, LENGTH)).unwrap_or_else(|error| panic!("{case}: {error}"));
            let echo = SocketAddr::new(vip, ECHO);
            let exchanged = net.client.run(move || {
                let socket = datagrams(echo)?;
                [0, 1, 512, 1452].into_iter().try_for_each(|length| exchange(&socket, &pattern(length)))
            });
            exchanged.unwrap_or_else(|error| panic!("{case}: {error}"));
            for _ in 0..3 {
                let ping = net.attempt(Try::Ping(vip));
                assert!(ping.answered(), "{case}: {ping:?}");
            }
        }
        // A backend that is a client itself has its answers through the balancer as well, be they its own.
        for (family, backend) in
            FAMILIES.into_iter().flat_map(|family| net.backends.iter().map(move |backend| (family, backend)))
        {
            let web = SocketAddr::new(net.topology.vip(family), HTTP);
            let got = backend.host.run(move || (0..2).try_for_each(|_| download(web, 100_000)));
            got.unwrap_or_else(|error| panic!("{queues:?} {web} for backend {}: {error}", backend.number));
        }
        let report = balancer.stop();
        assert_eq!(report.dropped(), [], "{queues:?}");
        assert_eq!(report.flows("opened"), 6 + 8, "{queues:?}");
        assert_eq!(report.reason("answered", "echo_request"), 6, "{queues:?}");
    }
}

#[test]
fn everything_gets_through_by_full_nat() {
    private("matrix::everything_gets_through_by_full_nat", || everything_gets_through("full"));
}

#[test]
fn everything_gets_through_by_dnat() {
    private("matrix::everything_gets_through_by_dnat", || everything_gets_through("dnat"));
}
