//! Packets that other programs sent: what is in real captures, counted by kind.
//!
//! The captures are in `pcaps/real/`; its README says where they come from. What is expected
//! here was compared with what tshark says of the same packets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use fourseven::capture::Reader;
use fourseven::packet::quote::{Quote, icmp_checksum_is_right, is_error, renew_icmp_checksum};
use fourseven::packet::rewrite::{Passage, translate};
use fourseven::packet::{ChecksumState, Family, FiveTuple, Transport, Unreadable, View};

/// All IP packets of a capture, as far as they were captured.
fn ip_packets(path: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut reader = Reader::new(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut packets = vec![];
    while let Some(packet) = reader.read().unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
        packets.extend(packet.ip().map(|ip| ip.bytes.to_vec()).ok());
    }
    packets
}

fn kind(view: Result<View, Unreadable>) -> &'static str {
    match view {
        Ok(view) => match view.transport {
            Transport::Tcp { .. } => "tcp",
            Transport::Udp { .. } => "udp",
            Transport::Icmp { .. } => "icmp",
            Transport::LaterFragment => "later fragment",
            Transport::Other(_) => "other",
        },
        Err(Unreadable::Malformed) => "malformed",
        Err(Unreadable::HeaderChecksum) => "header checksum",
        Err(Unreadable::TinyFragment) => "tiny fragment",
        Err(Unreadable::Unsupported) => "unsupported",
    }
}

/// How many packets there are of each kind, with the ICMP errors that quote a flow's packet.
fn tally(packets: &[Vec<u8>]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for packet in packets {
        let view = View::of(packet);
        *counts.entry(kind(view)).or_default() += 1;
        if let Some(view) = view.ok().filter(is_icmp_error)
            && Quote::of(packet, &view).is_some()
        {
            *counts.entry("quote").or_default() += 1;
        }
    }
    let counts: Vec<_> = counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    counts.join(", ")
}

fn is_icmp_error(view: &View) -> bool {
    matches!(view.transport, Transport::Icmp { kind, .. } if is_error(view.family, kind))
}

const CAPTURES: &[(&str, &str)] = &[
    // Whole TCP connections, their headers full of options, and plain pings and datagrams.
    ("suricata__quic-frag-unordered__input.pcap", "7 udp"),
    ("suricata__tcp-empty-sack__tcp-opt.pcap", "42 tcp"),
    ("tcpdump__accecn_handshake.pcap", "6 tcp"),
    ("tcpdump__mptcp-v1.pcap", "20 tcp"),
    ("zeek__icmp__5-pings.pcap", "10 icmp"),
    ("zeek__tcp-http-with-padding.pcap", "25 tcp"),
    // Extension headers and options: harmless ones, routes, authentication headers.
    ("suricata__detect-ipopts__input.pcap", "6 tcp, 2 unsupported"),
    ("suricata__ipv6-hdr-keyword-02__input.pcap", "1 udp"),
    ("tcpdump__ipv6-routing-header.pcap", "4 unsupported"),
    ("tcpdump__ipv6-too-long-jumbo.pcap", "1 malformed"),
    ("tcpdump__ipv6_no_next_header.pcap", "1 other"),
    ("zeek__ipv6-hbh-routing0.pcap", "1 unsupported"),
    ("zeek__ipv6-mobility-dst-opts.pcap", "1 malformed, 2 udp"),
    ("zeek__ipv6_zero_len_ah.pcap", "9 icmp, 1 unsupported"),
    ("zeek__unknown-ip-short-payload.pcap", "4 other"),
    // Fragments: in order, atomic, tiny, with several fragment headers.
    ("suricata__bug-6887-defrag-eth-vlan-ipv6-tcp__frag-eth-vlan-ipv6-tcp.pcap", "2 later fragment, 1 tcp"),
    ("suricata__bug-6887-defrag-ipv4-tcp-syn__frag-ip-tcp-syn.pcap", "3 tiny fragment"),
    ("suricata__exception-policy-defrag-01__ipv4frags.pcap", "2 icmp, 1 later fragment"),
    ("suricata__ipv6-malformed-fragments-12__frag-12.pcap", "8 icmp, 1 malformed"),
    ("suricata__ipv6-malformed-fragments-35__frag-35.pcap", "10 icmp, 3 later fragment, 1 malformed"),
    ("suricata__ipv6-malformed-fragments-9__frag-9.pcap", "9 icmp, 2 udp"),
    ("zeek__ipv6-fragmented-dns.pcap", "3 later fragment, 5 udp"),
    ("zeek__ipv6-http-atomic-frag.pcap", "2 icmp, 36 tcp"),
    // ICMP errors.
    ("tcpdump__icmpv6-rfc7112.pcap", "1 icmp"),
    ("zeek__icmp__icmp-destunreach-udp.pcap", "1 icmp, 1 quote"),
    ("zeek__icmp__icmp-timeexceeded.pcap", "1 icmp, 1 quote"),
    ("zeek__icmp__icmp6-destunreach-ip6ext-trunc.pcap", "1 icmp"),
    ("zeek__icmp__icmp6-destunreach-ip6ext-udp.pcap", "1 icmp, 1 quote"),
    ("zeek__icmp__icmp6-timeexceeded.pcap", "1 icmp, 1 quote"),
    ("zeek__icmp__icmp6-toobig.pcap", "1 icmp, 1 quote"),
    // Cut and impossible headers.
    ("suricata__decode-too-small__test.pcap", "6 malformed, 2 other"),
    ("tcpdump__icmp-icmp_print-oobr-1.pcap", "2 header checksum"),
    ("tcpdump__ipv4_invalid_hdr_length.pcap", "1 malformed"),
    ("tcpdump__ipv4_invalid_total_length.pcap", "1 malformed"),
    ("zeek__tcp__truncated-header.pcap", "12 malformed, 12 tcp"),
    ("zeek__trunc__icmp-payload-trunc.pcap", "4 malformed"),
    ("zeek__trunc__ip-discarder-truncated-tcp-oob.pcapng", "1 malformed"),
    ("zeek__trunc__ip6-ext-trunc.pcap", "1 malformed"),
];

fn captured(name: &str) -> Vec<Vec<u8>> {
    ip_packets(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/real").join(name))
}

#[test]
fn real_packets_are_what_tshark_says_they_are() {
    for (name, want) in CAPTURES {
        assert_eq!(tally(&captured(name)), *want, "{name}");
    }
}

#[test]
fn every_capture_is_looked_at() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/real");
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(CAPTURES.iter().any(|(listed, _)| *listed == name), "{name} is not in the table");
    }
}

/// Right or wrong, with or without a checksum: what goes there and back is what came.
#[test]
fn real_packets_go_there_and_back() {
    let mut checked = 0;
    for (name, _) in CAPTURES {
        for packet in captured(name) {
            let Ok(view) = View::of(&packet) else { continue };
            let Some(from) = view.tuple() else { continue };
            let ends = match view.family {
                Family::V4 => ["10.47.3.9:50000", "10.47.2.2:8080"],
                Family::V6 => ["[fd47:3::9]:50000", "[fd47:2::2]:8080"],
            };
            let [source, destination] = ends.map(|text| text.parse::<SocketAddr>().unwrap().into());
            let to = FiveTuple { protocol: from.protocol, source, destination };
            let mut bytes = packet.clone();
            for tuple in [to, from] {
                let view = View::of(&bytes).unwrap();
                translate(&mut bytes, &view, &tuple, ChecksumState::Whole, Passage::default());
                assert_eq!(View::of(&bytes).unwrap().tuple(), Some(tuple), "{name}");
            }
            assert_eq!(bytes, packet, "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, 165);
}

#[test]
fn real_quotes_go_there_and_back() {
    let mut checked = 0;
    for (name, _) in CAPTURES {
        for packet in captured(name) {
            let Some(view) = View::of(&packet).ok().filter(is_icmp_error) else { continue };
            let Some(quote) = Quote::of(&packet, &view) else { continue };
            assert!(icmp_checksum_is_right(&packet, &view), "{name}");
            let mut bytes = packet.clone();
            for tuple in [quote.tuple().reversed(), quote.tuple()] {
                Quote::of(&bytes, &view).unwrap().rewrite(&mut bytes, &tuple);
                renew_icmp_checksum(&mut bytes, &view);
                assert_eq!(Quote::of(&bytes, &view).unwrap().tuple(), tuple, "{name}");
            }
            assert_eq!(bytes, packet, "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, 5);
}
