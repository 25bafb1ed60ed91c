//! ICMP in memory: a ping, a router's "no way there", and what such messages mean to a socket.

use std::net::IpAddr;

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};

use crate::lab::attempt::End;
use crate::packet::{Address, Family, View};

/// Bytes of a packet that an error quotes: enough for both headers, and less than any limit.
const QUOTED: usize = 512;
const HOPS: u8 = 64;

/// An ICMP echo request.
pub(super) fn echo_request(source: IpAddr, target: IpAddr, identifier: u16) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    let built = match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            PacketBuilder::ipv4(source.octets(), target.octets(), HOPS)
                .icmpv4_echo_request(identifier, 1)
                .write(&mut packet, b"fourseven")
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            PacketBuilder::ipv6(source.octets(), target.octets(), HOPS)
                .icmpv6_echo_request(identifier, 1)
                .write(&mut packet, b"fourseven")
        }
        _ => return None,
    };
    built.ok().map(|()| packet)
}

/// Whether an ICMP message is the reply to [`echo_request`].
pub(super) fn is_echo_reply(packet: &[u8], view: &View, kind: u8, identifier: u16) -> bool {
    let reply = match view.family {
        Family::V4 => 0,
        Family::V6 => 129,
    };
    let [high, low] = identifier.to_be_bytes();
    let body = packet.get(view.transport_at.saturating_add(4)..view.length);
    kind == reply
        && body.and_then(|body| body.strip_prefix(&[high, low, 0, 1])) == Some(b"fourseven".as_slice())
}

/// What a router says about a packet that it has no way for, to whom the packet came from.
pub(super) fn no_route(packet: &[u8], view: &View, router: Address) -> Option<Vec<u8>> {
    let quoted = packet.get(..view.length.min(QUOTED))?;
    let mut error = Vec::new();
    let built = match view.family {
        Family::V4 => PacketBuilder::ipv4(router.v4_octets(), view.source.v4_octets(), HOPS)
            .icmpv4(Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Network))
            .write(&mut error, quoted),
        Family::V6 => PacketBuilder::ipv6(router.octets(), view.source.octets(), HOPS)
            .icmpv6(Icmpv6Type::DestinationUnreachable(DestUnreachableCode::NoRoute))
            .write(&mut error, quoted),
    };
    built.ok().map(|()| error)
}

/// What an ICMP error means to a socket that waits for an answer, as Linux has it.
pub(super) fn meaning(family: Family, kind: u8, code: u8) -> Option<End> {
    match (family, kind, code) {
        (Family::V4, 3, 2 | 3) | (Family::V6, 1, 4) => Some(End::Refused),
        // "Fragmentation needed" is no end, but a matter for who sends.
        (Family::V4, 3, 4) => None,
        (Family::V4, 3, _) | (Family::V6, 1, _) => Some(End::Unreachable),
        _ => None,
    }
}
