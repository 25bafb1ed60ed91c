//! Packets described and built by hand, and sums added up the slow way.
//!
//! Nothing here uses the code under test. What a packet must become is known by building it
//! anew from a changed description: then every byte and every checksum is compared at once.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use crate::packet::{ChecksumState, Endpoint, FiveTuple, Protocol};

/// One TCP or UDP packet, described.
#[derive(Clone, Debug)]
pub struct Packet {
    pub tuple: FiveTuple,
    pub hops: u8,
    pub id: u32,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: their kind, and their bytes but for the next header's kind.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Everything in the TCP header but ports and checksum; of it UDP uses nothing.
    pub tcp: Tcp,
    pub payload: Vec<u8>,
    /// Bytes in the IP payload behind what UDP's length covers (RFC 9868 puts options there).
    pub surplus: Vec<u8>,
    pub sum: Sum,
    /// Cuts the datagram after so many bytes of IP payload, a multiple of eight, and keeps the
    /// first fragment.
    pub first_fragment: Option<usize>,
    /// Bytes behind the end that the IP header gives.
    pub padding: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Tcp {
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
}

/// What is in a transport checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Right,
    /// Wrong, by this one's-complement amount.
    WrongBy(u16),
    /// The sum of the pseudo-header, for somebody else to complete.
    Partial,
    /// UDP's zero.
    Absent,
}

impl Packet {
    /// A plain packet without anything unusual in it.
    pub fn plain(protocol: Protocol, source: &str, destination: &str) -> Self {
        Self {
            tuple: tuple(protocol, source, destination),
            hops: 64,
            id: 0x1234,
            options: vec![],
            extensions: vec![],
            tcp: Tcp {
                sequence: 1000,
                acknowledgement: 2000,
                flags: flags::ACK,
                window: 1024,
                urgent: 0,
                options: vec![],
            },
            payload: b"four or seven".to_vec(),
            surplus: vec![],
            sum: Sum::Right,
            first_fragment: None,
            padding: vec![],
        }
    }

    pub fn is_v4(&self) -> bool {
        IpAddr::from(self.tuple.source.address).is_ipv4()
    }

    /// Where the transport header starts.
    pub fn transport_at(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| bytes.len() + 1).sum();
        match (self.is_v4(), self.first_fragment) {
            (true, _) => 20 + self.options.len(),
            (false, None) => 40 + extensions,
            (false, Some(_)) => 40 + extensions + 8,
        }
    }

    pub fn checksum_at(&self) -> usize {
        match self.tuple.protocol {
            Protocol::Tcp => self.transport_at() + 16,
            Protocol::Udp => self.transport_at() + 6,
        }
    }

    pub fn transport_header_length(&self) -> usize {
        match self.tuple.protocol {
            Protocol::Tcp => 20 + self.tcp.options.len(),
            Protocol::Udp => 8,
        }
    }

    /// What a queue would say about the checksum.
    pub fn checksum_state(&self) -> ChecksumState {
        match self.sum {
            Sum::Partial => ChecksumState::Partial {
                start: u16::try_from(self.transport_at()).unwrap(),
                offset: u16::try_from(self.checksum_at() - self.transport_at()).unwrap(),
            },
            _ => ChecksumState::Whole,
        }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut datagram = self.datagram();
        datagram.extend(&self.surplus);
        if let Some(cut) = self.first_fragment {
            datagram.truncate(cut);
        }
        let mut packet = if self.is_v4() { self.v4(&datagram) } else { self.v6(&datagram) };
        packet.extend(&datagram);
        packet.extend(&self.padding);
        packet
    }

    fn datagram(&self) -> Vec<u8> {
        let ports = [self.tuple.source.port.to_be_bytes(), self.tuple.destination.port.to_be_bytes()];
        let mut bytes = ports.concat();
        let checksum_at = match self.tuple.protocol {
            Protocol::Tcp => {
                let tcp = &self.tcp;
                bytes.extend(tcp.sequence.to_be_bytes());
                bytes.extend(tcp.acknowledgement.to_be_bytes());
                bytes.extend([u8::try_from(5 + tcp.options.len() / 4).unwrap() << 4, tcp.flags]);
                bytes.extend(tcp.window.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(tcp.urgent.to_be_bytes());
                bytes.extend(&tcp.options);
                16
            }
            Protocol::Udp => {
                bytes.extend(u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes());
                bytes.extend([0, 0]);
                6
            }
        };
        bytes.extend(&self.payload);

        let pseudo = self.pseudo_header(bytes.len());
        let right = !slow_sum(&[pseudo.as_slice(), &bytes].concat());
        let field = match self.sum {
            Sum::Right => self.as_sent(right),
            Sum::WrongBy(amount) => self.as_sent(ones_complement_add(right, amount)),
            Sum::Partial => slow_sum(&pseudo),
            Sum::Absent => 0,
        };
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&field.to_be_bytes());
        bytes
    }

    /// Of the two zeros of one's-complement arithmetic the one that goes on the wire.
    fn as_sent(&self, checksum: u16) -> u16 {
        match (self.tuple.protocol, checksum) {
            (Protocol::Udp, 0) => 0xffff,
            (Protocol::Tcp, 0xffff) => 0,
            (_, other) => other,
        }
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = addresses(&self.tuple);
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend([0, 0, 0, self.tuple.protocol as u8]);
        bytes
    }

    fn v4(&self, datagram: &[u8]) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let length = u16::try_from(header_length + datagram.len()).unwrap();
        let mut header = vec![0x40 | u8::try_from(header_length / 4).unwrap(), 0];
        header.extend(length.to_be_bytes());
        header.extend(u16::try_from(self.id & 0xffff).unwrap().to_be_bytes());
        header.extend([if self.first_fragment.is_some() { 0x20 } else { 0 }, 0]);
        header.extend([self.hops, self.tuple.protocol as u8, 0, 0]);
        header.extend(addresses(&self.tuple));
        header.extend(&self.options);
        let sum = !slow_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn v6(&self, datagram: &[u8]) -> Vec<u8> {
        let mut chain = self.extensions.clone();
        if self.first_fragment.is_some() {
            let id = self.id.to_be_bytes();
            chain.push((44, vec![0, 0, 1, id[0], id[1], id[2], id[3]]));
        }
        let kinds: Vec<u8> = chain.iter().map(|(kind, _)| *kind).chain([self.tuple.protocol as u8]).collect();
        let behind: Vec<u8> = chain
            .iter()
            .zip(&kinds[1..])
            .flat_map(|((_, bytes), next)| [*next].into_iter().chain(bytes.iter().copied()))
            .collect();
        let length = u16::try_from(behind.len() + datagram.len()).unwrap();
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([kinds[0], self.hops]);
        header.extend(addresses(&self.tuple));
        header.extend(behind);
        header
    }
}

/// The flag bits of TCP's fourteenth byte.
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

pub fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub fn tuple(protocol: Protocol, source: &str, destination: &str) -> FiveTuple {
    FiveTuple { protocol, source: endpoint(source), destination: endpoint(destination) }
}

/// Source and destination address as they stand in the packet.
fn addresses(tuple: &FiveTuple) -> Vec<u8> {
    [tuple.source.address, tuple.destination.address]
        .map(|address| match IpAddr::from(address) {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        })
        .concat()
}

/// The one's-complement sum of 16-bit words, as RFC 1071 §1 says it in words.
pub fn slow_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum, pair| {
        ones_complement_add(sum, u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
    })
}

pub fn ones_complement_add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// An ICMP message of `source`'s family in a packet of its own, with right checksums; `head` is
/// its type, its code, and the four bytes behind the checksum.
pub fn icmp(source: IpAddr, destination: IpAddr, head: [u8; 6], body: &[u8]) -> Vec<u8> {
    let ends = FiveTuple {
        protocol: Protocol::Udp,
        source: SocketAddr::new(source, 0).into(),
        destination: SocketAddr::new(destination, 0).into(),
    };
    let [kind, code, rest @ ..] = head;
    let mut message = [&[kind, code, 0, 0], rest.as_slice(), body].concat();
    let length = u16::try_from(message.len()).unwrap();
    let mut packet = if source.is_ipv4() {
        let mut header = vec![0x45, 0xc0];
        header.extend((20 + length).to_be_bytes());
        header.extend([0, 7, 0, 0, 61, 1, 0, 0]);
        header.extend(addresses(&ends));
        let sum = !slow_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([58, 61]);
        header.extend(addresses(&ends));
        header
    };
    let mut covered = message.clone();
    if source.is_ipv6() {
        covered.extend(vec![0; covered.len() % 2]);
        covered.extend(addresses(&ends));
        covered.extend(u32::from(length).to_be_bytes());
        covered.extend([0, 0, 0, 58]);
    }
    message[2..4].copy_from_slice(&(!slow_sum(&covered)).to_be_bytes());
    packet.extend(message);
    packet
}

/// Does what a device does that was handed a partial checksum.
pub fn complete(packet: &mut [u8], length: usize, state: ChecksumState, protocol: Protocol) {
    let ChecksumState::Partial { start, offset } = state else { return };
    let start = usize::from(start);
    let at = start + usize::from(offset);
    let field = match (protocol, !slow_sum(&packet[start..length])) {
        (Protocol::Udp, 0) => 0xffff,
        (_, sum) => sum,
    };
    packet[at..at + 2].copy_from_slice(&field.to_be_bytes());
}

/// Any endpoint of one family.
pub fn any_endpoint(v4: bool) -> BoxedStrategy<Endpoint> {
    // Zeros and ones are where one's-complement sums go wrong.
    let port = prop_oneof![8 => any::<u16>(), 1 => Just(0u16), 1 => Just(0xffff)];
    if v4 {
        let bytes = prop_oneof![8 => any::<[u8; 4]>(), 1 => Just([0; 4]), 1 => Just([0xff; 4])];
        (bytes, port).prop_map(|(bytes, port)| SocketAddr::new(bytes.into(), port).into()).boxed()
    } else {
        let bytes = prop_oneof![8 => any::<[u8; 16]>(), 1 => Just([0; 16]), 1 => Just([0xff; 16])];
        (bytes, port)
            .prop_filter("mapped addresses are dropped as martians", |(bytes, _)| {
                bytes[..12] != [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
            })
            .prop_map(|(bytes, port)| SocketAddr::new(bytes.into(), port).into())
            .boxed()
    }
}

/// Any two tuples of one family and one protocol.
pub fn any_two_tuples() -> impl Strategy<Value = [FiveTuple; 2]> {
    any::<(bool, bool)>().prop_flat_map(|(v4, tcp)| {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let ends = || (any_endpoint(v4), any_endpoint(v4));
        (ends(), ends()).prop_map(move |(from, to)| {
            [from, to].map(|(source, destination)| FiveTuple { protocol, source, destination })
        })
    })
}

/// Any right packet from the first of two tuples, and the second.
pub fn any_packet(payload: std::ops::Range<usize>) -> BoxedStrategy<(Packet, FiveTuple)> {
    let sum = |protocol| {
        match protocol {
        Protocol::Tcp => {
            prop_oneof![3 => Just(Sum::Right), 1 => any::<u16>().prop_map(Sum::WrongBy), 1 => Just(Sum::Partial)]
                .boxed()
        }
        Protocol::Udp => prop_oneof![
            3 => Just(Sum::Right),
            1 => any::<u16>().prop_map(Sum::WrongBy),
            1 => Just(Sum::Partial),
            1 => Just(Sum::Absent)
        ]
        .boxed(),
    }
    };
    any_two_tuples()
        .prop_flat_map(move |[from, to]| {
            let small = || prop::collection::vec(any::<u8>(), 0..9);
            let payload = prop::collection::vec(any::<u8>(), payload.clone());
            let ip = (any::<u8>(), any::<u32>(), any_options(), any_extensions());
            let cut = prop::option::weighted(0.2, 0usize..64);
            (ip, any_tcp(), payload, small(), small(), sum(from.protocol), cut).prop_map(
                move |((hops, id, options, extensions), tcp, payload, surplus, padding, sum, cut)| {
                    let mut packet = Packet {
                        tuple: from,
                        hops,
                        id,
                        options,
                        extensions,
                        tcp,
                        payload,
                        surplus: if from.protocol == Protocol::Udp && sum != Sum::Partial {
                            surplus
                        } else {
                            vec![]
                        },
                        sum,
                        first_fragment: None,
                        padding,
                    };
                    let header = packet.transport_header_length();
                    packet.first_fragment = cut
                        .map(|cut| header.next_multiple_of(8) + 8 * cut)
                        .filter(|cut| *cut < header + packet.payload.len() && sum != Sum::Partial);
                    if packet.first_fragment.is_some() {
                        packet.extensions.retain(|(kind, _)| *kind != 44);
                    }
                    (packet, to)
                },
            )
        })
        .boxed()
}

fn any_tcp() -> impl Strategy<Value = Tcp> {
    let options = prop::collection::vec(any::<[u8; 4]>(), 0..=10).prop_map(|words| words.concat());
    (any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>(), any::<u16>(), options).prop_map(
        |(sequence, acknowledgement, flags, window, urgent, options)| Tcp {
            sequence,
            acknowledgement,
            flags,
            window,
            urgent,
            options,
        },
    )
}

/// IPv4 options that a router lets pass: nothing, or up to 40 bytes of them.
fn any_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![148, 4, 0, 0]),                                       // router alert
        any::<[u8; 4]>().prop_map(|at| [&[7, 7, 4][..], &at].concat()), // record route, one place
        any::<[u8; 6]>().prop_map(|body| [&[134, 8][..], &body].concat()), // anything of eight bytes
    ];
    prop::collection::vec(option, 0..5).prop_map(|options| {
        let mut bytes = options.concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

/// IPv6 extension headers in an order that is allowed.
fn any_extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let body = |units: u8| prop::collection::vec(any::<u8>(), 6 + 8 * usize::from(units));
    let header = move |kind: u8| {
        (0u8..4).prop_flat_map(move |units| {
            body(units).prop_map(move |body| {
                let mut bytes = [&[units], body.as_slice()].concat();
                if kind == 43 {
                    bytes[2] = 0; // no segments left
                }
                (kind, bytes)
            })
        })
    };
    // One that is its own first and last fragment (RFC 6946).
    let atomic = any::<[u8; 4]>().prop_map(|id| (44, [&[0, 0, 0][..], &id].concat()));
    (
        prop::option::weighted(0.2, header(0)),
        prop::option::weighted(0.2, header(60)),
        prop::option::weighted(0.2, header(43)),
        prop::option::weighted(0.2, atomic),
        prop::option::weighted(0.2, header(60)),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect())
}
