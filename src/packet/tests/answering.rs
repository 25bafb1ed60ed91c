//! What we say in our own name is right by somebody else's reading, and by the RFCs' rules.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::support::{Packet, any_packet, flags, icmp, ones_complement_add, slow_sum};
use crate::packet::answer::icmp_error;
use crate::packet::answer::{Answer, IcmpError, is_echo_request, reset, turn_into_echo_reply};
use crate::packet::{Address, Family, Protocol, View};

const CLIENTS: [&str; 2] = ["198.51.100.7:40000", "[2001:db8:1::7]:40000"];
const VIPS: [&str; 2] = ["203.0.113.1:80", "[2001:db8::1]:80"];

/// Reads a packet with etherparse's strict reader, and sums up all that it has.
fn strictly(packet: &[u8]) -> SlicedPacket<'_> {
    let sliced = SlicedPacket::from_ip(packet).expect("etherparse reads it");
    let addresses: Vec<u8> = match sliced.net.as_ref().expect("it is IP") {
        NetSlice::Ipv4(v4) => {
            let header = v4.header();
            assert_eq!(slow_sum(header.slice()), 0xffff, "header checksum of {packet:02x?}");
            [header.source(), header.destination()].concat()
        }
        NetSlice::Ipv6(v6) => [v6.header().source(), v6.header().destination()].concat(),
        NetSlice::Arp(_) => unreachable!("an IP packet was asked for"),
    };
    let (bytes, covered) = match sliced.transport.as_ref().expect("it has a transport") {
        TransportSlice::Tcp(tcp) => (tcp.slice(), Some(6)),
        TransportSlice::Udp(udp) => (udp.slice(), Some(17)),
        TransportSlice::Icmpv4(icmp) => (icmp.slice(), None),
        TransportSlice::Icmpv6(icmp) => (icmp.slice(), Some(58)),
        TransportSlice::Igmp(_) => unreachable!("nobody sends IGMP here"),
    };
    let pseudo = covered.map_or(0, |protocol: u8| {
        let length = u16::try_from(bytes.len()).unwrap();
        slow_sum(&[addresses.as_slice(), &length.to_be_bytes(), &[0, protocol]].concat())
    });
    assert_eq!(ones_complement_add(pseudo, slow_sum(bytes)), 0xffff, "checksum of {packet:02x?}");
    sliced
}

fn segment(index: usize, flags: u8, payload: usize) -> Packet {
    let mut packet = Packet::plain(Protocol::Tcp, CLIENTS[index], VIPS[index]);
    packet.tcp.flags = flags;
    packet.payload = vec![7; payload];
    packet
}

#[test] // RFC 9293 §3.10.7.1
fn a_reset_has_the_sequence_number_that_will_be_accepted() {
    use flags::{ACK, FIN, RST, SYN};
    for (name, flags, payload, want) in [
        ("SYN", SYN, 0, Some((0, Some(1001)))),
        ("SYN with data", SYN, 10, Some((0, Some(1011)))),
        ("SYN and FIN", SYN | FIN, 0, Some((0, Some(1002)))),
        ("SYN-ACK", SYN | ACK, 0, Some((2000, None))),
        ("ACK", ACK, 0, Some((2000, None))),
        ("ACK with data", ACK, 1000, Some((2000, None))),
        ("FIN-ACK", FIN | ACK, 5, Some((2000, None))),
        ("FIN alone", FIN, 5, Some((0, Some(1006)))),
        ("no flag at all", 0, 0, Some((0, Some(1000)))),
        ("no flag, with data", 0, 3, Some((0, Some(1003)))),
        ("a large segment", 0, 60_000, Some((0, Some(61_000)))),
        ("RST", RST, 0, None),
        ("RST-ACK", RST | ACK, 0, None),
        ("RST of whoever sends all flags", RST | ACK | SYN | FIN, 0, None),
    ] {
        for index in [0, 1] {
            let packet = segment(index, flags, payload);
            let bytes = packet.build();
            let answer = reset(&bytes, &View::of(&bytes).unwrap());
            let got = answer.map(|answer| {
                let sliced = strictly(answer.packet());
                let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("{name}: no TCP") };
                assert_eq!(View::of(answer.packet()).unwrap().tuple(), Some(packet.tuple.reversed()));
                assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && !tcp.psh(), "{name}");
                (tcp.sequence_number(), tcp.ack().then(|| tcp.acknowledgment_number()))
            });
            assert_eq!(got, want, "{name}");
        }
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut packet = segment(0, flags::SYN, 1);
    packet.tcp.sequence = u32::MAX;
    let bytes = packet.build();
    let answer = reset(&bytes, &View::of(&bytes).unwrap()).unwrap();
    assert_eq!(answer.packet()[28..32], 1u32.to_be_bytes());
}

/// Who pings, and gets the reply by our hand and by the slow way.
fn ping(index: usize, rest: [u8; 4], body: &[u8]) -> [Vec<u8>; 2] {
    let [client, vip] = [CLIENTS, VIPS].map(|text| text[index].parse::<SocketAddr>().unwrap().ip());
    let [request, reply] = if index == 0 { [8, 0] } else { [128, 129] };
    let head = |kind: u8| [kind, 0, rest[0], rest[1], rest[2], rest[3]];
    let mut want = icmp(vip, client, head(reply), body);
    if index == 0 {
        want[8] = 64;
        want[10..12].fill(0);
        let sum = !slow_sum(&want[..20]);
        want[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        want[7] = 64;
    }
    [icmp(client, vip, head(request), body), want]
}

proptest! {
    #[test]
    fn a_ping_becomes_its_reply(
        index in 0usize..2, rest in any::<[u8; 4]>(), body in prop::collection::vec(any::<u8>(), 0..1500)
    ) {
        let [mut packet, want] = ping(index, rest, &body);
        let view = View::of(&packet).unwrap();
        turn_into_echo_reply(&mut packet, &view);
        prop_assert_eq!(&packet, &want);
        strictly(&packet);
    }
}

/// A message that is all zeros has no pseudo-header over IPv4: its checksum is 0xffff, which
/// no change of a sum ever gives.
#[test]
fn a_reply_that_is_all_zeros_has_the_checksum_that_receivers_accept() {
    for (name, rest, body) in [
        ("nothing in it", [0; 4], vec![]),
        ("56 zeros", [0; 4], vec![0; 56]),
        ("odd", [0; 4], vec![0; 55]),
        ("all ones sum up to zero as well", [0; 4], vec![0xff; 2]),
        ("in the identifier", [0xff, 0xff, 0, 0], vec![0; 8]),
    ] {
        for index in [0, 1] {
            let [mut packet, want] = ping(index, rest, &body);
            let view = View::of(&packet).unwrap();
            turn_into_echo_reply(&mut packet, &view);
            assert_eq!(packet, want, "{name}");
            strictly(&packet);
        }
    }
}

/// Each fragment of a ping is answered by itself, and their sum stays right.
#[test]
fn fragments_of_a_ping_become_those_of_its_reply() {
    let body: Vec<u8> = (0..=255).cycle().take(2000).collect();
    let [request, want] = ping(0, [1, 2, 3, 4], &body);
    let cut = |packet: &[u8], range: std::ops::Range<usize>, more: bool| {
        let mut bytes = [&packet[..20], &packet[20 + range.start..20 + range.end]].concat();
        let length = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let field = u16::try_from(range.start / 8).unwrap() | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&field.to_be_bytes());
        bytes[10..12].fill(0);
        let sum = !slow_sum(&bytes[..20]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    for (range, more) in [(0..1480, true), (1480..2008, false)] {
        let mut packet = cut(&request, range.clone(), more);
        let view = View::of(&packet).unwrap();
        turn_into_echo_reply(&mut packet, &view);
        assert_eq!(packet, cut(&want, range, more));
    }
}

#[test]
fn only_a_ping_is_a_ping() {
    for kind in 0..=u8::MAX {
        assert_eq!(is_echo_request(Family::V4, kind), kind == 8);
        assert_eq!(is_echo_request(Family::V6, kind), kind == 128);
    }
}

const ERRORS: [(IcmpError, [[u8; 2]; 2]); 3] = [
    (IcmpError::PortUnreachable, [[3, 3], [1, 4]]),
    (IcmpError::Prohibited, [[3, 13], [1, 1]]),
    (IcmpError::TimeExceeded, [[11, 0], [3, 0]]),
];

#[test]
fn an_error_quotes_as_much_as_it_may() {
    for (index, most, envelope) in [(0, 576, 28), (1, 1280, 48)] {
        let from: Address = VIPS[index].parse::<SocketAddr>().unwrap().ip().into();
        for (error, kinds) in ERRORS {
            for payload in [0, 1, 100, 499, 500, 501, 1199, 1200, 1201, 60_000] {
                let packet = Packet { padding: vec![0; 9], ..segment(index, flags::ACK, payload) };
                let bytes = packet.build();
                let view = View::of(&bytes).unwrap();
                let answer = icmp_error(&bytes, &view, from, error).unwrap();
                let got = answer.packet();
                strictly(got);
                let answered = View::of(got).unwrap();
                assert_eq!([answered.source, answered.destination], [from, packet.tuple.source.address]);
                assert_eq!(got[answered.transport_at..][..2], kinds[index], "{error:?}");
                assert_eq!(got[answered.transport_at + 4..][..4], [0; 4], "unused, and so zero");
                assert_eq!(got.len(), (envelope + view.length).min(most), "{payload} bytes");
                assert_eq!(got[envelope..], bytes[..got.len() - envelope]);
            }
        }
    }
}

/// A mapped address comes over IPv6 only from those who wish to confuse: no answer to IPv6 may
/// then be IPv4.
#[test]
fn an_answer_is_of_the_family_of_its_packet() {
    let mut packet = segment(1, flags::SYN, 0).build();
    packet[24..40].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 1]);
    let view = View::of(&packet).unwrap();
    for answer in [reset(&packet, &view), icmp_error(&packet, &view, view.destination, IcmpError::Prohibited)]
    {
        let answer = answer.unwrap();
        strictly(answer.packet());
        let answered = View::of(answer.packet()).unwrap();
        assert_eq!((answered.family, answered.source), (Family::V6, view.destination));
    }
}

/// The one that we send about a packet is one that we would translate.
#[test]
fn an_error_names_the_flow_that_it_is_about() {
    for index in [0, 1] {
        let packet = segment(index, flags::ACK, 2000);
        let bytes = packet.build();
        let view = View::of(&bytes).unwrap();
        let answer = icmp_error(&bytes, &view, view.destination, IcmpError::TimeExceeded).unwrap();
        let view = View::of(answer.packet()).unwrap();
        let quote = crate::packet::quote::Quote::of(answer.packet(), &view).unwrap();
        assert_eq!(quote.tuple(), packet.tuple);
    }
}

#[test]
fn no_error_is_sent_where_none_may_be() {
    let [client, vip] =
        [CLIENTS, VIPS].map(|texts| texts.map(|text| text.parse::<SocketAddr>().unwrap().ip()));
    let message = |index: usize, kind: u8| icmp(client[index], vip[index], [kind, 0, 0, 0, 0, 0], &[0; 40]);
    let from_to = |source: &str, destination: &str| {
        let [source, destination] = [source, destination].map(|text| text.parse::<IpAddr>().unwrap());
        let mut packet = Packet::plain(Protocol::Tcp, CLIENTS[0], VIPS[0]);
        packet.tuple.source = SocketAddr::new(source, 1).into();
        packet.tuple.destination = SocketAddr::new(destination, 2).into();
        packet.tcp.flags = flags::SYN;
        packet.build()
    };
    let later = {
        let mut bytes = Packet { first_fragment: Some(24), ..segment(1, 0, 64) }.build();
        bytes[43] |= 8 * 3;
        bytes
    };
    for (name, bytes, sent) in [
        ("about a ping", message(0, 8), true),
        ("about a ping's reply", message(0, 0), true),
        ("about a timestamp request", message(0, 13), true),
        ("about a destination unreachable", message(0, 3), false),
        ("about a source quench", message(0, 4), false),
        ("about a redirect", message(0, 5), false),
        ("about a time exceeded", message(0, 11), false),
        ("about a parameter problem", message(0, 12), false),
        ("about an ICMPv6 ping", message(1, 128), true),
        ("about an ICMPv6 ping's reply", message(1, 129), true),
        ("about an ICMPv6 error", message(1, 1), false),
        ("about a packet too big", message(1, 2), false),
        ("about an ICMPv6 error nobody knows", message(1, 127), false),
        ("about a neighbour solicitation", message(1, 135), false),
        ("about an ICMPv6 redirect", message(1, 137), false),
        ("about a first fragment", Packet { first_fragment: Some(24), ..segment(1, 0, 64) }.build(), true),
        ("about a later fragment", later, false),
        ("about a reset", segment(0, flags::RST, 0).build(), true),
        ("to multicast", from_to("198.51.100.7", "224.0.0.1"), false),
        ("to broadcast", from_to("198.51.100.7", "255.255.255.255"), false),
        ("from multicast", from_to("239.1.2.3", "203.0.113.1"), false),
        ("from nobody", from_to("0.0.0.0", "203.0.113.1"), false),
        ("from this network", from_to("0.1.2.3", "203.0.113.1"), false),
        ("from loopback", from_to("127.0.0.1", "203.0.113.1"), false),
        ("to IPv6 multicast", from_to("2001:db8::7", "ff02::1"), false),
        ("from IPv6 multicast", from_to("ff0e::7", "2001:db8::1"), false),
        ("from no IPv6 address", from_to("::", "2001:db8::1"), false),
        ("from IPv6 loopback", from_to("::1", "2001:db8::1"), false),
        ("from one host to another", from_to("198.51.100.7", "203.0.113.1"), true),
    ] {
        let view = View::of(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (error, _) in ERRORS {
            let got = icmp_error(&bytes, &view, view.destination, error);
            assert_eq!(got.is_some(), sent, "{name}: {error:?}");
            got.as_ref().map(Answer::packet).map(strictly);
        }
        if view.tuple().is_some() && !sent {
            assert!(reset(&bytes, &view).is_none(), "a reset {name}");
        }
    }
}

#[test]
fn a_fragment_and_another_protocol_get_no_reset() {
    for packet in [
        Packet { first_fragment: Some(24), ..segment(0, flags::SYN, 64) },
        Packet { first_fragment: Some(24), ..segment(1, flags::SYN, 64) },
        Packet::plain(Protocol::Udp, CLIENTS[0], VIPS[0]),
    ] {
        let bytes = packet.build();
        assert!(reset(&bytes, &View::of(&bytes).unwrap()).is_none(), "{packet:?}");
    }
}

proptest! {
    #[test]
    fn every_answer_to_every_packet_is_read_strictly((packet, to) in any_packet(0..1500)) {
        let bytes = packet.build();
        let view = View::of(&bytes).unwrap();
        let errors = ERRORS.map(|(error, _)| icmp_error(&bytes, &view, to.destination.address, error));
        for answer in errors.into_iter().chain([reset(&bytes, &view)]).flatten() {
            strictly(answer.packet());
        }
    }
}
