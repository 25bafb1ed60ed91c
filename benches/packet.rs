//! What one packet costs in the `packet` room: read it, give it other addresses and ports.
//!
//! `cargo bench --bench packet`. 64 packets take turns, since on a queue the one that was just
//! written is not the next to be read. Each is rewritten between two tuples, there and back, so
//! that it is a right one all the time. The size of the payload must not matter: nothing behind
//! the transport header is touched.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use fourseven::packet::rewrite::{Passage, translate};
use fourseven::packet::{ChecksumState, FiveTuple, Protocol, View};

const BOTH_ENDS: [(&str, [&str; 4]); 2] = [
    ("v4", ["198.51.100.7:40000", "203.0.113.1:80", "10.47.3.9:50000", "10.47.2.2:8080"]),
    ("v6", ["[2001:db8:1::7]:40000", "[2001:db8::1]:80", "[fd47:3::9]:50000", "[fd47:2::2]:8080"]),
];

fn tuple(source: &str, destination: &str) -> FiveTuple {
    let endpoint = |text: &str| text.parse::<SocketAddr>().expect("an address and a port").into();
    FiveTuple { protocol: Protocol::Tcp, source: endpoint(source), destination: endpoint(destination) }
}

fn segment(source: &str, destination: &str, payload: usize) -> Vec<u8> {
    let [source, destination]: [SocketAddr; 2] =
        [source, destination].map(|text| text.parse().expect("an address and a port"));
    let ip = match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), 64)
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.ip().octets(), destination.ip().octets(), 64)
        }
        _ => unreachable!("both ends are of one family"),
    };
    let mut packet = Vec::new();
    ip.tcp(source.port(), destination.port(), 1, 1024)
        .ack(1)
        .write(&mut packet, &vec![7; payload])
        .expect("a packet of a legal length");
    packet
}

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    for (family, [client, vip, local, backend]) in BOTH_ENDS {
        let ways = [tuple(local, backend), tuple(client, vip)];
        for payload in [0, 1400, 64_000] {
            let mut packets = vec![segment(client, vip, payload); 64];
            let mut turn = 0;
            group.bench_function(format!("read/{family}/{payload}"), |b| {
                b.iter(|| {
                    turn += 1;
                    View::of(black_box(&packets[turn % 64])).map(|view| view.transport_at)
                });
            });
            let mut turn = 0;
            group.bench_function(format!("read_and_translate/{family}/{payload}"), |b| {
                b.iter(|| {
                    turn += 1;
                    let packet = black_box(packets[turn % 64].as_mut_slice());
                    let view = View::of(packet).expect("a right packet");
                    let to = &ways[turn / 64 % 2];
                    translate(packet, &view, to, ChecksumState::Whole, Passage::default());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, packets);
criterion_main!(benches);
