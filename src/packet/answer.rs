//! What the balancer says in its own name: echo replies, resets, ICMP errors.
//!
//! Each is made of the packet that it answers. No reset answers a reset, and no ICMP error an
//! ICMP error, or two machines could go on for ever; none answers a later fragment, a packet to
//! many or one from nobody in particular, or one packet could call forth a crowd (RFC 1122
//! §3.2.2, RFC 4443 §2.4, RFC 9293 §3.9.2.3). The functions refuse those.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, ip_number};

use super::checksum::{self, Change};
use super::quote;
use super::tuple::{Address, Family};
use super::view::{Transport, View};

/// Hops that our own packets may go (the assigned default of RFC 1700).
const HOPS: u8 = 64;

/// The longest answer: no ICMPv6 error may exceed IPv6's smallest MTU (RFC 4443 §2.4).
pub const MAX_ANSWER: usize = 1280;

/// The longest ICMPv4 error (RFC 1812 §4.3.2.3).
const MAX_ERROR_V4: usize = 576;

/// An answer, ready to be sent.
#[derive(Clone, Copy)]
pub struct Answer {
    bytes: [u8; MAX_ANSWER],
    length: usize,
}

impl Answer {
    /// The packet.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Nobody listens on this port.
    PortUnreachable,
    /// Turned away by a limit (RFC 5508 REQ-8 asks for this one where a NAT has no room).
    Prohibited,
    /// TTL or hop limit came to its end on the way.
    TimeExceeded,
}

impl IcmpError {
    const fn kind_and_code(self, family: Family) -> [u8; 2] {
        match (self, family) {
            (Self::PortUnreachable, Family::V4) => [3, 3],
            (Self::PortUnreachable, Family::V6) => [1, 4],
            (Self::Prohibited, Family::V4) => [3, 13],
            (Self::Prohibited, Family::V6) => [1, 1],
            (Self::TimeExceeded, Family::V4) => [11, 0],
            (Self::TimeExceeded, Family::V6) => [3, 0],
        }
    }
}

/// Whether a message of this type is a ping.
pub const fn is_echo_request(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => kind == 8,
        Family::V6 => kind == 128,
    }
}

/// Turns a ping into its reply, in place: the payload is the same, so that this works for
/// one of any length, also for one fragment of it.
pub fn turn_into_echo_reply(packet: &mut [u8], view: &View) {
    let (hops_at, reply) = match view.family {
        Family::V4 => (8, 0u8),
        Family::V6 => (7, 129),
    };
    if let Transport::Icmp { kind, code } = view.transport
        && let Some([kind_field, _, high, low, rest @ ..]) = packet.get_mut(view.transport_at..view.length)
    {
        // The pseudo-header's addresses only change places, which a sum does not notice.
        let mut change = Change::default();
        change.word(u16::from_be_bytes([kind, code]), u16::from_be_bytes([reply, code]));
        let sum = match change.whole(u16::from_be_bytes([*high, *low])) {
            // A message that is all zeros, without a pseudo-header, is the only one whose sum
            // is 0xffff; carrying a change in never gives that.
            0 if reply == 0 && rest.iter().all(|byte| *byte == 0) => 0xffff,
            sum => sum,
        };
        *kind_field = reply;
        [*high, *low] = sum.to_be_bytes();
    }
    let (addresses_at, length) = match view.family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    if let Some(addresses) = packet.get_mut(addresses_at..addresses_at + 2 * length) {
        let (source, destination) = addresses.split_at_mut(length);
        source.swap_with_slice(destination);
    }
    if let Some(hops) = packet.get_mut(hops_at) {
        *hops = HOPS;
    }
    if view.family == Family::V4 {
        renew_header_checksum(packet, view);
    }
}

fn renew_header_checksum(packet: &mut [u8], view: &View) {
    let Some(header) = packet.get_mut(..view.transport_at.min(60)) else { return };
    if let Some(field) = header.get_mut(10..12) {
        field.fill(0);
    }
    let sum = checksum::of(header);
    if let Some(field) = header.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The reset that a TCP without such a connection sends (RFC 9293 §3.10.7.1), with exactly the
/// sequence number that the other side will accept. `None` for what is no TCP segment, a
/// reset itself, or not from one host to another.
pub fn reset(packet: &[u8], view: &View) -> Option<Answer> {
    let Transport::Tcp { source_port, destination_port, flags, header_length } = view.transport else {
        return None;
    };
    if flags.rst() || view.fragment.is_some() || !is_between_two_hosts(view) {
        return None;
    }
    let numbers = packet.get(view.transport_at..)?.first_chunk::<12>()?;
    let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3] = *numbers;
    let (sequence, acknowledgement) =
        (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([a0, a1, a2, a3]));

    let mut tcp = TcpHeader::new(destination_port, source_port, 0, 0);
    tcp.rst = true;
    if flags.ack() {
        tcp.sequence_number = acknowledgement;
    } else {
        let payload = view.length.saturating_sub(view.transport_at).saturating_sub(header_length);
        let length = u32::try_from(payload).ok()? + u32::from(flags.syn()) + u32::from(flags.fin());
        tcp.ack = true;
        tcp.acknowledgment_number = sequence.wrapping_add(length);
    }
    let mut bytes = [0u8; 20];
    bytes.copy_from_slice(tcp.to_bytes().get(..20)?);
    let start = pseudo_header(view.family, view.destination, view.source, ip_number::TCP, bytes.len());
    let sum = !checksum::sum(start, &bytes);
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    envelope(view.family, view.destination, view.source, ip_number::TCP, &[&bytes])
}

/// An ICMP error about a packet, from `source` to whoever sent it, quoting as much of it as
/// the RFCs allow. `None` where none may be sent: about ICMP errors, later fragments, and
/// packets that are not from one host to another.
pub fn icmp_error(packet: &[u8], view: &View, source: Address, error: IcmpError) -> Option<Answer> {
    match view.transport {
        _ if !is_between_two_hosts(view) => return None,
        Transport::LaterFragment => return None,
        Transport::Icmp { kind, .. } if !is_query(view.family, kind) => return None,
        _ => {}
    }
    let (protocol, room) = match view.family {
        Family::V4 => (ip_number::ICMP, MAX_ERROR_V4 - 20 - 8),
        Family::V6 => (ip_number::IPV6_ICMP, MAX_ANSWER - 40 - 8),
    };
    let quoted = packet.get(..view.length.min(room))?;
    let [kind, code] = error.kind_and_code(view.family);
    let mut head = [kind, code, 0, 0, 0, 0, 0, 0];
    let start = match view.family {
        Family::V4 => 0,
        Family::V6 => pseudo_header(view.family, source, view.source, protocol, head.len() + quoted.len()),
    };
    let sum = !checksum::sum(checksum::sum(start, &head), quoted);
    head[2..4].copy_from_slice(&sum.to_be_bytes());
    envelope(view.family, source, view.source, protocol, &[&head, quoted])
}

/// Whether an ICMP message asks for something, so that an error about it cannot answer an error.
const fn is_query(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => !quote::is_error(family, kind) && kind != 5,
        Family::V6 => matches!(kind, 128 | 129),
    }
}

/// Whether both addresses are those of single hosts, as far as the addresses tell: a subnet's
/// own broadcast address looks like any other.
fn is_between_two_hosts(view: &View) -> bool {
    let is_one_host = |address: Address| match IpAddr::from(address) {
        IpAddr::V4(v4) => {
            !(v4.is_multicast() || v4.is_broadcast() || v4.is_loopback() || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_loopback() || v6.is_unspecified()),
    };
    is_one_host(view.source) && is_one_host(view.destination)
}

fn pseudo_header(
    family: Family,
    source: Address,
    destination: Address,
    protocol: IpNumber,
    length: usize,
) -> u16 {
    match family {
        Family::V4 => {
            checksum::pseudo_header(&source.v4_octets(), &destination.v4_octets(), protocol.0, length)
        }
        Family::V6 => checksum::pseudo_header(&source.octets(), &destination.octets(), protocol.0, length),
    }
}

/// Puts an IP header in front. The family is the packet's: an address may be a mapped one, and
/// does not know.
fn envelope(
    family: Family,
    source: Address,
    destination: Address,
    protocol: IpNumber,
    parts: &[&[u8]],
) -> Option<Answer> {
    let payload = u16::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    let mut answer = Answer { bytes: [0; MAX_ANSWER], length: 0 };
    let mut append = |part: &[u8]| {
        let end = answer.length + part.len();
        answer.bytes.get_mut(answer.length..end)?.copy_from_slice(part);
        answer.length = end;
        Some(())
    };
    match family {
        Family::V4 => {
            let mut header =
                Ipv4Header::new(payload, HOPS, protocol, source.v4_octets(), destination.v4_octets()).ok()?;
            // A datagram that can never be cut needs no identification (RFC 6864 §4.1).
            header.dont_fragment = true;
            header.header_checksum = header.calc_header_checksum();
            append(&header.to_bytes())?;
        }
        Family::V6 => append(
            &Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: payload,
                next_header: protocol,
                hop_limit: HOPS,
                source: source.octets(),
                destination: destination.octets(),
            }
            .to_bytes(),
        )?,
    }
    for part in parts {
        append(part)?;
    }
    Some(answer)
}
