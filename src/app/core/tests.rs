//! Whose a packet is: by its port, its fragment, its extension headers, what it quotes.

use std::net::SocketAddr;

use etherparse::PacketBuilder;

use super::*;
use crate::app::config::{self, Source};
use crate::app::cores::Cores;
use crate::datapath::{Reason, WorkerId};
use crate::l7::spec::{GroupId, RouteSpec, SiteSpec};
use crate::packet::Offload;

fn at(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

/// Layer 7 has port 443 of the VIP that layer 4 has port 80 of, and a VIP of its own, in each family.
fn plan() -> Plan {
    let listen = ["203.0.113.1:443", "203.0.113.2:443", "[2001:db8::1]:443", "[2001:db8::2]:443"];
    let routes = vec![RouteSpec::to(GroupId(0))];
    let site = SiteSpec { routes, ..SiteSpec::plain("site", listen.map(at).into()) };
    Plan { sites: vec![site], ..Plan::default() }
}

const LAYER_4: &str = r#"
[tun]
local = ["10.47.3.0/24", "fd47:3::/64"]
[[service]]
name = "web"
listen = ["tcp/203.0.113.1:80", "tcp/[2001:db8::1]:80", "udp/203.0.113.2:443", "udp/[2001:db8::2]:443"]
backends = ["10.0.0.1:8080", "[fd00::1]:8080"]
"#;

fn config() -> config::Config {
    let config = config::from_toml(&Source::new("joint.toml", LAYER_4)).config.unwrap();
    config::Config { plan: plan(), ..config }
}

fn listens() -> Listens {
    Listens::new(&config().services, &plan())
}

fn segment(from: &str, to: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let builder = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => panic!("one family"),
    };
    let mut packet = Vec::new();
    builder.tcp(from.port(), to.port(), 1, 1000).syn().write(&mut packet, b"12345678").unwrap();
    change(&mut packet);
    packet
}

/// Puts a fragment header before the TCP header of an IPv6 packet.
fn fragmented(packet: &mut Vec<u8>, offset: u16, more: u8) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    let header = [TCP, 0, high, low, 0, 0, 0, 7];
    packet[6] = FRAGMENT;
    let _: Vec<u8> = packet.splice(40..40, header).collect();
    lengthen(packet, 8);
}

/// Puts empty destination options before the TCP header of an IPv6 packet.
fn with_options(packet: &mut Vec<u8>) {
    packet[6] = DESTINATION;
    let _: Vec<u8> = packet.splice(40..40, [TCP, 0, 1, 4, 0, 0, 0, 0]).collect();
    lengthen(packet, 8);
}

fn lengthen(packet: &mut [u8], by: u16) {
    let length = u16::from_be_bytes([packet[4], packet[5]]) + by;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
}

fn v4_header_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = crate::packet::checksum::of_header(&packet[..usize::from(packet[0] & 15) * 4]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn v4_fragment(packet: &mut [u8], flags_and_offset: u16) {
    packet[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
    v4_header_checksum(packet);
}

fn v4_options(packet: &mut Vec<u8>) {
    packet[0] = 0x46;
    let _: Vec<u8> = packet.splice(20..20, [1, 1, 1, 1]).collect();
    let length = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    v4_header_checksum(packet);
}

/// An ICMP error about a packet, sent to where that came from.
fn error_about(quoted: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    if quoted[0] >> 4 == 4 {
        let to = <[u8; 4]>::try_from(&quoted[12..16]).unwrap();
        let builder = PacketBuilder::ipv4([198, 51, 100, 254], to, 64);
        builder.icmpv4_raw(3, 1, [0; 4]).write(&mut packet, quoted).unwrap();
    } else {
        let to = <[u8; 16]>::try_from(&quoted[8..24]).unwrap();
        let builder = PacketBuilder::ipv6([0x20; 16], to, 64);
        builder.icmpv6_raw(1, 0, [0; 4]).write(&mut packet, quoted).unwrap();
    }
    packet
}

#[test]
fn a_packet_goes_to_layer_7_by_its_port_and_to_layer_4_otherwise() {
    let listens = listens();
    let nothing = |_: &mut Vec<u8>| {};
    let (c4, c6) = ("198.51.100.1:40000", "[2001:db8:1::1]:40000");
    let mapped = |packet: &mut Vec<u8>| {
        packet[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    };
    for (name, packet, want) in [
        ("a port of layer 7", segment(c4, "203.0.113.1:443", nothing), true),
        ("a port of layer 4 on the same VIP", segment(c4, "203.0.113.1:80", nothing), false),
        ("a port of nobody", segment(c4, "203.0.113.2:80", nothing), false),
        ("an address of nobody", segment(c4, "203.0.113.3:443", nothing), false),
        ("IPv4 options", segment(c4, "203.0.113.1:443", v4_options), true),
        ("IPv4 options, layer 4", segment(c4, "203.0.113.1:80", v4_options), false),
        ("a first fragment", segment(c4, "203.0.113.1:443", |p| v4_fragment(p, 0x2000)), true),
        ("a later one, alone", segment(c4, "203.0.113.2:443", |p| v4_fragment(p, 0x2007)), true),
        ("a later one, shared", segment(c4, "203.0.113.1:443", |p| v4_fragment(p, 7)), false),
        ("IPv6", segment(c6, "[2001:db8::1]:443", nothing), true),
        ("IPv6, layer 4", segment(c6, "[2001:db8::1]:80", nothing), false),
        ("IPv6 options", segment(c6, "[2001:db8::1]:443", with_options), true),
        ("IPv6 options, layer 4", segment(c6, "[2001:db8::1]:80", with_options), false),
        ("an IPv6 first fragment", segment(c6, "[2001:db8::1]:443", |p| fragmented(p, 0, 1)), true),
        ("a later one, alone", segment(c6, "[2001:db8::2]:443", |p| fragmented(p, 7, 1)), true),
        ("a later one, shared", segment(c6, "[2001:db8::1]:443", |p| fragmented(p, 7, 0)), false),
        ("a mapped source", segment(c6, "[2001:db8::1]:443", mapped), false),
        ("an error about layer 7", error_about(&segment("203.0.113.1:443", c4, nothing)), true),
        ("an error about layer 4", error_about(&segment("203.0.113.1:80", c4, nothing)), false),
        ("an error about what a client sent", error_about(&segment(c4, "203.0.113.1:443", nothing)), false),
        ("an IPv6 error about layer 7", error_about(&segment("[2001:db8::1]:443", c6, nothing)), true),
        ("an IPv6 error about layer 4", error_about(&segment("[2001:db8::1]:80", c6, nothing)), false),
    ] {
        assert_eq!(listens.take(&packet), want, "{name}");
        for length in 0..packet.len() {
            // Whatever is cut off may go anywhere, but must be looked at without harm.
            let _ = listens.take(&packet[..length]);
        }
    }
}

#[test]
fn a_mapped_address_in_ipv6_is_no_way_to_an_ipv4_listen() {
    let mut packet = segment("[2001:db8:1::1]:40000", "[2001:db8::1]:443", |_| {});
    packet[24..40].copy_from_slice(&at("203.0.113.1:443").address.octets());
    assert!(!listens().take(&packet));
    with_options(&mut packet);
    assert!(!listens().take(&packet));
}

/// A proxy that takes all in.
#[derive(Default)]
struct Taker;

impl Datapath for Taker {
    fn handle_frame(&mut self, _: Instant, _: &mut Frame, _: Arrival, _: &mut Outbox) -> Verdict {
        Verdict::Deliver(Reason::KnownFlow)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        Some(Instant::from_nanos(5))
    }

    fn poll_egress(&mut self, _: Instant, sink: &mut dyn FnMut(&mut Frame)) {
        sink(&mut Frame::copy_of(&[1], Offload::default()));
    }

    fn poll_dirty(&self, _: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[test]
fn vips_of_layer_7_answer_pings_and_refuse_other_ports() {
    let config = config();
    let cores = Cores::build(&config, 1).unwrap();
    let builders = crate::app::cores::joined(cores.translators, &config, |_| Taker);
    let mut core = builders.into_iter().next().unwrap()(WorkerId(0));
    let mut verdict = |packet: &[u8]| {
        let mut frame = Frame::copy_of(packet, Offload::default());
        core.handle_frame(Instant::START, &mut frame, Arrival::Queue, &mut Outbox::default())
    };
    let client = "198.51.100.1:40000";
    let to = |vip: &str| segment(client, vip, |_| {});
    assert_eq!(verdict(&to("203.0.113.2:443")), Verdict::Deliver(Reason::KnownFlow));
    assert_eq!(verdict(&to("203.0.113.2:444")), Verdict::Answer(Reason::NoService));
    assert_eq!(verdict(&to("203.0.113.1:80")), Verdict::Forward(Reason::NewFlow));
    assert_eq!(verdict(&to("203.0.113.9:443")), Verdict::Drop(Reason::NotOurs));
    let mut ping = Vec::new();
    let builder = PacketBuilder::ipv4([198, 51, 100, 1], [203, 0, 113, 2], 64);
    builder.icmpv4_echo_request(1, 1).write(&mut ping, b"ping").unwrap();
    assert_eq!(verdict(&ping), Verdict::Answer(Reason::EchoRequest));

    assert!(core.poll_timeout().is_some_and(|due| due <= Instant::from_nanos(5)));
    assert_eq!(core.poll_dirty(&Context::from_waker(std::task::Waker::noop())), Poll::Ready(()));
    let mut said = 0;
    core.poll_egress(Instant::START, &mut |_| said += 1);
    assert_eq!(said, 1);
}

#[test]
fn layer_7_needs_no_layer_4_beside_it() {
    let config = config::Config { services: Vec::new(), ..config() };
    let tun = config::Tun { local: Vec::new(), ..config.tun };
    let config = config::Config { tun, ..config };
    let cores = Cores::build(&config, 2).unwrap();
    assert_eq!(cores.translators.len(), 2);
}
