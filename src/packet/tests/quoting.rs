//! An ICMP error that is translated is the one that would have come about the translated
//! packet: every test builds that error anew, and compares all of it.

use std::net::IpAddr;

use proptest::prelude::*;

use super::support::{Packet, Sum, any_packet, endpoint, icmp, slow_sum, tuple};
use crate::packet::quote::{
    Quote, announced_mtu, icmp_checksum_is_right, is_error, is_unreachable, renew_icmp_checksum,
};
use crate::packet::rewrite::{Passage, readdress};
use crate::packet::{Address, Family, FiveTuple, Protocol, View};

const ROUTER: [&str; 2] = ["192.0.2.1", "2001:db8:ffff::1"];

fn ip(address: Address) -> IpAddr {
    address.into()
}

/// An error about the packet from a router, sent to where the packet came from.
fn error_about(packet: &Packet, quoted: &[u8], head: [u8; 6]) -> Vec<u8> {
    let router: IpAddr = ROUTER[usize::from(!packet.is_v4())].parse().unwrap();
    icmp(router, ip(packet.tuple.source.address), head, quoted)
}

fn too_big(packet: &Packet) -> [u8; 6] {
    if packet.is_v4() { [3, 4, 0, 0, 5, 120] } else { [2, 0, 0, 0, 5, 120] }
}

fn check(packet: &Packet, to: &FiveTuple, length: usize) -> Result<(), TestCaseError> {
    let quoted = &packet.build()[..length];
    let mut bytes = error_about(packet, quoted, too_big(packet));
    let view = View::of(&bytes).unwrap();
    prop_assert!(icmp_checksum_is_right(&bytes, &view));
    let got = Quote::of(&bytes, &view);
    if length < packet.transport_at() + 4 {
        prop_assert_eq!(got, None, "{} bytes of {:?}", length, packet);
        return Ok(());
    }
    let quote = got.unwrap();
    prop_assert_eq!(quote.tuple(), packet.tuple);

    quote.rewrite(&mut bytes, to);
    let client = to.source.address;
    readdress(&mut bytes, &view, view.source, client, Passage::default());
    renew_icmp_checksum(&mut bytes, &view);
    prop_assert!(icmp_checksum_is_right(&bytes, &view));

    let other = Packet { tuple: *to, ..packet.clone() };
    let mut wanted_quote = other.build()[..length].to_vec();
    if length == packet.checksum_at() + 1 {
        *wanted_quote.last_mut().unwrap() = *quoted.last().unwrap();
    }
    let want = error_about(&other, &wanted_quote, too_big(&other));
    prop_assert_eq!(&bytes, &want, "{} bytes of {:?}", length, packet);
    Ok(())
}

/// What stands in a quote may be wrong or a partial sum; how far that is right is not looked at.
fn whole_sums((mut packet, to): (Packet, FiveTuple)) -> (Packet, FiveTuple) {
    if packet.sum == Sum::Partial {
        packet.sum = Sum::WrongBy(0x1234);
    }
    (packet, to)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_quote_of_any_length_becomes_that_of_the_other_packet(
        (packet, to) in any_packet(0..24).prop_map(whole_sums)
    ) {
        for length in 0..=packet.build().len() {
            check(&packet, &to, length)?;
        }
    }

    #[test]
    fn a_long_quote_becomes_that_of_the_other_packet(
        (packet, to) in any_packet(500..1500).prop_map(whole_sums), short in 0usize..500
    ) {
        check(&packet, &to, packet.build().len().saturating_sub(short))?;
    }
}

/// RFC 5508 REQ-3c: the quoted transport checksum is not judged, and neither is anything else
/// of what a router may have changed before it quoted the packet.
#[test]
fn a_quote_need_not_be_right() {
    for ends in [["198.51.100.7:1", "203.0.113.1:80"], ["[2001:db8::7]:1", "[2001:db8::1]:80"]] {
        let packet = Packet::plain(Protocol::Udp, ends[0], ends[1]);
        for (name, at, xor) in [
            ("hops, and with them the header checksum", if packet.is_v4() { 8 } else { 7 }, 0x3f),
            ("total length", if packet.is_v4() { 2 } else { 4 }, 0xff),
            ("UDP length", packet.transport_at() + 4, 0xff),
            ("payload", packet.transport_at() + 8, 0xff),
        ] {
            let mut quoted = packet.build();
            quoted[at] ^= xor;
            let bytes = error_about(&packet, &quoted, too_big(&packet));
            let quote = Quote::of(&bytes, &View::of(&bytes).unwrap());
            assert_eq!(quote.map(|quote| quote.tuple()), Some(packet.tuple), "{name}");
        }
    }
}

/// RFC 4884 puts objects behind a quote that is padded to 128 bytes: they stay as they are.
#[test]
fn extensions_behind_a_quote_stay() {
    let packet = Packet::plain(Protocol::Udp, "198.51.100.7:1", "203.0.113.1:80");
    let to = tuple(Protocol::Udp, "10.0.0.1:2", "10.0.0.2:3");
    let behind = |packet: &Packet| {
        let mut quoted = packet.build();
        quoted.resize(128, 0);
        quoted.extend([0x20, 0, 0xdf, 0xff, 0, 8, 1, 1, 1, 2, 3, 4]);
        error_about(packet, &quoted, [11, 0, 0, 32, 0, 0])
    };
    let mut bytes = behind(&packet);
    let view = View::of(&bytes).unwrap();
    Quote::of(&bytes, &view).unwrap().rewrite(&mut bytes, &to);
    readdress(&mut bytes, &view, view.source, to.source.address, Passage::default());
    renew_icmp_checksum(&mut bytes, &view);
    assert_eq!(bytes, behind(&Packet { tuple: to, ..packet }));
}

#[test]
fn a_quote_without_ports_names_no_flow() {
    let v4 = Packet::plain(Protocol::Udp, "198.51.100.7:1", "203.0.113.1:80");
    let v6 = Packet::plain(Protocol::Udp, "[2001:db8::7]:1", "[2001:db8::1]:80");
    let mut v4_later = v4.build();
    v4_later[7] = 1;
    let v6_fragment = |offset: u8| {
        let mut bytes = v6.build();
        bytes[6] = 44;
        bytes.splice(40..40, [17, 0, 0, offset | 1, 0, 0, 0, 9]);
        bytes
    };
    let with = |packet: &Packet, at: usize, value: u8| {
        let mut bytes = packet.build();
        bytes[at] = value;
        bytes
    };
    let many = [&v6.build()[..40], &[60, 0, 0, 0, 0, 0, 0, 0].repeat(150)].concat();
    for (name, packet, quoted, names) in [
        ("nothing", &v4, vec![], false),
        ("a later fragment", &v4, v4_later, false),
        ("a first fragment", &v6, v6_fragment(0), true),
        ("a later fragment over IPv6", &v6, v6_fragment(8), false),
        ("an ICMP message", &v4, with(&v4, 9, 1), false),
        ("an ICMPv6 message", &v6, with(&v6, 6, 58), false),
        ("no next header", &v6, with(&v6, 6, 59), false),
        ("another version", &v4, with(&v4, 0, 0x65), false),
        ("another version over IPv6", &v6, with(&v6, 0, 0x45), false),
        ("a header length of 16", &v4, with(&v4, 0, 0x44), false),
        ("a header length past the end", &v4, with(&v4, 0, 0x4f), false),
        ("more extension headers than any packet has", &v6, with_first(many, 60), false),
    ] {
        let bytes = error_about(packet, &quoted, too_big(packet));
        let quote = Quote::of(&bytes, &View::of(&bytes).unwrap());
        assert_eq!(quote.is_some(), names, "{name}");
    }
}

fn with_first(mut packet: Vec<u8>, kind: u8) -> Vec<u8> {
    packet[6] = kind;
    packet
}

#[test]
fn a_damaged_icmp_message_is_seen() {
    for (router, host) in [(ROUTER[0], "198.51.100.7"), (ROUTER[1], "2001:db8::7")] {
        let good = icmp(router.parse().unwrap(), host.parse().unwrap(), [3, 4, 0, 0, 0, 0], &[1, 2, 3]);
        let view = View::of(&good).unwrap();
        assert!(icmp_checksum_is_right(&good, &view));
        for at in view.transport_at..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(!icmp_checksum_is_right(&bad, &view), "byte {at}");
            renew_icmp_checksum(&mut bad, &view);
            assert!(icmp_checksum_is_right(&bad, &view), "byte {at}");
        }
        // Padding is no part of it.
        let padded = [good.as_slice(), &[9; 5]].concat();
        assert!(icmp_checksum_is_right(&padded, &View::of(&padded).unwrap()));
    }
}

#[test]
fn messages_mean_what_their_rfcs_say() {
    use Family::{V4, V6};
    let errors_v4 = [3, 4, 11, 12];
    for kind in 0..=u8::MAX {
        assert_eq!(is_error(V4, kind), errors_v4.contains(&kind), "{kind}");
        assert_eq!(is_error(V6, kind), kind <= 127, "RFC 4443 §2.1: {kind}");
    }
    for (family, kind, code, want) in [
        (V4, 3, 0, true),
        (V4, 3, 3, true),
        (V4, 3, 4, false),
        (V4, 3, 13, true),
        (V4, 11, 0, false),
        (V6, 1, 4, true),
        (V6, 2, 0, false),
        (V6, 3, 0, false),
    ] {
        assert_eq!(is_unreachable(family, kind, code), want, "{family:?} {kind} {code}");
    }
    for (family, head, want) in [
        (V4, [3, 4, 0, 0, 0x05, 0x78], Some(1400)),
        (V4, [3, 4, 9, 9, 0x05, 0x78], Some(1400)),
        (V4, [3, 4, 0, 0, 0, 0], None), // routers before RFC 1191
        (V4, [3, 3, 0, 0, 0x05, 0x78], None),
        (V4, [2, 0, 0, 0, 0x05, 0x78], None),
        (V6, [2, 0, 0, 0, 0x05, 0x78], Some(1400)),
        (V6, [2, 7, 0, 1, 0, 0], Some(65_536)), // RFC 4443 §3.2: its code is ignored
        (V6, [3, 4, 0, 0, 0x05, 0x78], None),
    ] {
        let [router, host] = match family {
            V4 => [ROUTER[0], "198.51.100.7"],
            V6 => [ROUTER[1], "2001:db8::7"],
        };
        let bytes = icmp(router.parse().unwrap(), host.parse().unwrap(), head, &[]);
        let view = View::of(&bytes).unwrap();
        assert_eq!(announced_mtu(&bytes, &view, head[0], head[1]), want, "{family:?} {head:?}");
    }
}

/// What the module's picture shows, in numbers.
#[test]
fn the_port_unreachable_of_a_backend_reaches_the_client() {
    let sent = Packet::plain(Protocol::Udp, "10.47.3.9:50000", "10.47.2.2:53");
    let client = Packet { tuple: tuple(Protocol::Udp, "10.47.1.2:40000", "10.47.0.1:53"), ..sent.clone() };
    let backend: IpAddr = "10.47.2.2".parse().unwrap();
    let mut bytes = icmp(backend, ip(sent.tuple.source.address), [3, 3, 0, 0, 0, 0], &sent.build());
    let view = View::of(&bytes).unwrap();
    let quote = Quote::of(&bytes, &view).unwrap();
    assert_eq!(quote.tuple().reversed().source, endpoint("10.47.2.2:53"));
    quote.rewrite(&mut bytes, &client.tuple);
    let vip = endpoint("10.47.0.1:53").address;
    readdress(&mut bytes, &view, vip, client.tuple.source.address, Passage::default());
    renew_icmp_checksum(&mut bytes, &view);
    let want = icmp(ip(vip), ip(client.tuple.source.address), [3, 3, 0, 0, 0, 0], &client.build());
    assert_eq!(bytes, want);
    assert_eq!(slow_sum(&bytes[20..]), 0xffff);
}
