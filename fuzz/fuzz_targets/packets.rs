//! Any bytes as a packet: read, translated there and back, quoted, answered.
//!
//! ```text
//!   input   ├── 48 bytes of settings ──┼── the packet ──┤
//! ```
//!
//! Settings say where to translate to, and whether to make the checksums right first that would
//! otherwise keep nearly all inputs out. `cargo +nightly fuzz run packets -- -max_len=2100` needs
//! no corpus to begin with: after two minutes it has reached what it reaches with captures.

#![no_main]

use etherparse::SlicedPacket;
use fourseven::packet::answer::{IcmpError, icmp_error, is_echo_request, reset, turn_into_echo_reply};
use fourseven::packet::quote::{Quote, announced_mtu, icmp_checksum_is_right, is_error, renew_icmp_checksum};
use fourseven::packet::rewrite::{Passage, lacks_checksum, readdress, translate};
use fourseven::packet::{
    Address, ChecksumState, Endpoint, Family, FiveTuple, Protocol, Transport, View, checksum,
};
use libfuzzer_sys::fuzz_target;

const SETTINGS: usize = 48;

struct Settings {
    source: [u8; 16],
    destination: [u8; 16],
    ports: [u16; 2],
    identification: u32,
    flags: u8,
    cut: u16,
}

impl Settings {
    fn of(bytes: &[u8; SETTINGS]) -> Self {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        Self {
            source: bytes[..16].try_into().unwrap(),
            destination: bytes[16..32].try_into().unwrap(),
            ports: [word(32), word(34)],
            identification: u32::from(word(36)) << 16 | u32::from(word(38)),
            flags: bytes[40],
            cut: word(42),
        }
    }

    fn has(&self, bit: u8) -> bool {
        self.flags & 1 << bit != 0
    }

    fn address(family: Family, bytes: [u8; 16]) -> Address {
        match family {
            Family::V4 => Address::v4(*bytes.first_chunk().unwrap()),
            Family::V6 => Address::v6(bytes),
        }
    }

    fn tuple(&self, family: Family, protocol: Protocol) -> FiveTuple {
        let endpoint = |bytes, port| Endpoint { address: Self::address(family, bytes), port };
        FiveTuple {
            protocol,
            source: endpoint(self.source, self.ports[0]),
            destination: endpoint(self.destination, self.ports[1]),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((settings, packet)) = input.split_first_chunk::<SETTINGS>() else { return };
    let settings = Settings::of(settings);
    let mut packet = packet.to_vec();
    if settings.has(0) {
        mend_header(&mut packet);
    }
    let Ok(view) = View::of(&packet) else { return };
    if settings.has(1) && matches!(view.transport, Transport::Icmp { .. }) {
        renew_icmp_checksum(&mut packet, &view);
    }
    assert_eq!(View::of(&packet), Ok(view), "a checksum behind the header changes nothing in a view");
    assert!(view.transport_at <= view.length && view.length <= packet.len());
    if let Some(fragment) = view.fragment {
        assert!(usize::from(fragment.offset) + view.length - view.transport_at <= 65_535);
        assert!(fragment.id_at < view.transport_at);
    }

    there_and_back(&packet, &view, &settings);
    quoted(&packet, &view, &settings);
    answered(&packet, &view, &settings);

    // The same view, and a packet that it does not fit.
    let cut = usize::from(settings.cut) % (packet.len() + 1);
    harmless(&packet[..cut], &view, &settings);
    harmless(&packet[cut..], &view, &settings);
});

/// Makes an IPv4 header checksum right.
fn mend_header(packet: &mut [u8]) {
    let length = usize::from(packet.first().copied().unwrap_or(0) & 0xf) * 4;
    if length < 20 || packet.len() < length || packet[0] >> 4 != 4 {
        return;
    }
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..length]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Makes the two zeros of one's-complement arithmetic one, in the checksum at `at`.
fn one_zero(packet: &mut [u8], at: usize) {
    if let Some(field @ [0xff, 0xff]) = packet.get_mut(at..at + 2) {
        field.fill(0);
    }
}

fn there_and_back(packet: &[u8], view: &View, settings: &Settings) {
    let start = u16::try_from(view.transport_at).unwrap();
    let Some(from) = view.tuple() else {
        let to = settings.tuple(view.family, Protocol::Udp);
        let mut bytes = packet.to_vec();
        readdress(&mut bytes, view, to.source.address, to.destination.address, Passage::default());
        assert_eq!(bytes[view.transport_at..], packet[view.transport_at..]);
        let there = View::of(&bytes).expect("what was readable stays so");
        assert_eq!([there.source, there.destination], [to.source.address, to.destination.address]);
        readdress(&mut bytes, &there, view.source, view.destination, Passage::default());
        let mut packet = packet.to_vec();
        for bytes in [&mut bytes, &mut packet] {
            if view.family == Family::V4 {
                one_zero(bytes, 10);
            }
        }
        assert_eq!(bytes, packet);
        return;
    };
    let to = settings.tuple(view.family, from.protocol);
    let offset = match from.protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    };
    let state = match (settings.has(2), settings.has(3)) {
        (true, _) => ChecksumState::Partial { start, offset },
        (false, true) => ChecksumState::Partial { start: settings.cut, offset },
        (false, false) => ChecksumState::Whole,
    };
    let mut bytes = packet.to_vec();
    translate(&mut bytes, view, &to, state, Passage::default());
    let there = View::of(&bytes).expect("what was readable stays so");
    assert_eq!(there.tuple(), Some(to));
    let same =
        View { source: there.source, destination: there.destination, transport: there.transport, ..*view };
    assert_eq!(there, same);
    translate(&mut bytes, &there, &from, state, Passage::default());
    let mut packet = packet.to_vec();
    let at = view.transport_at + usize::from(offset);
    for bytes in [&mut bytes, &mut packet] {
        if view.family == Family::V4 {
            one_zero(bytes, 10);
        }
        // UDP's two zeros differ, but a partial sum has only one, and never a zero of its own.
        if from.protocol == Protocol::Tcp || settings.has(2) || settings.has(3) {
            one_zero(bytes, at);
        }
    }
    assert_eq!(bytes, packet);

    let passage = Passage { decrement_hops: true, identification: Some(settings.identification) };
    translate(&mut bytes, view, &to, state, passage);
    let there = View::of(&bytes).expect("what was readable stays so");
    assert_eq!(there.hops, view.hops.saturating_sub(1));
    let id = settings.identification;
    match (there.fragment.map(|fragment| fragment.id), view.family) {
        (Some(got), Family::V4) => assert_eq!(got, id & 0xffff),
        (Some(got), Family::V6) => assert_eq!(got, id),
        (None, _) => {}
    }
}

fn quoted(packet: &[u8], view: &View, settings: &Settings) {
    let Transport::Icmp { kind, .. } = view.transport else { return };
    if !is_error(view.family, kind) {
        return;
    }
    let Some(quote) = Quote::of(packet, view) else { return };
    let from = quote.tuple();
    let to = settings.tuple(view.family, from.protocol);
    let mut bytes = packet.to_vec();
    quote.rewrite(&mut bytes, &to);
    assert_eq!(bytes[..view.transport_at + 8], packet[..view.transport_at + 8]);
    assert_eq!(bytes[view.length..], packet[view.length..]);
    let there = Quote::of(&bytes, view).expect("what named a flow still does");
    assert_eq!(there.tuple(), to);
    renew_icmp_checksum(&mut bytes, view);
    assert!(icmp_checksum_is_right(&bytes, view));
    there.rewrite(&mut bytes, &from);

    // Whatever stands in a quoted checksum field comes back, but for the two zeros.
    let behind = view.transport_at + 8;
    for at in behind..view.length {
        let same = bytes[at] == packet[at];
        let two_zeros = |at: usize| {
            let pair = |bytes: &[u8]| bytes.get(at..at + 2).map(<[u8]>::to_vec);
            [pair(&bytes), pair(packet)]
                .iter()
                .all(|pair| matches!(pair.as_deref(), Some([0, 0] | [0xff, 0xff])))
        };
        assert!(same || two_zeros(at) || two_zeros(at - 1), "byte {at} of a quote");
    }
}

fn answered(packet: &[u8], view: &View, settings: &Settings) {
    let own = Settings::address(view.family, settings.destination);
    let errors = [IcmpError::PortUnreachable, IcmpError::Prohibited, IcmpError::TimeExceeded];
    let answers = errors.map(|error| icmp_error(packet, view, own, error));
    let refusal = reset(packet, view);
    assert!(answers.iter().all(Option::is_some) || answers.iter().all(Option::is_none));
    for answer in answers.iter().flatten().chain(&refusal) {
        SlicedPacket::from_ip(answer.packet()).expect("etherparse reads it");
        let answered = View::of(answer.packet()).expect("and so do we");
        assert_eq!((answered.destination, answered.hops), (view.source, 64));
        assert_eq!(answered.length, answer.packet().len());
        if let Transport::Icmp { .. } = answered.transport {
            assert!(icmp_checksum_is_right(answer.packet(), &answered));
        }
    }
    // No answer is answered for ever: not a reset by a reset, nor an error by an error.
    for answer in answers.iter().flatten() {
        let view = View::of(answer.packet()).unwrap();
        assert!(icmp_error(answer.packet(), &view, own, IcmpError::TimeExceeded).is_none());
    }
    if let Some(answer) = &refusal {
        let view = View::of(answer.packet()).unwrap();
        assert_eq!(view.tuple().map(FiveTuple::reversed), View::of(packet).unwrap().tuple());
        assert!(reset(answer.packet(), &view).is_none());
    }

    let Transport::Icmp { kind, .. } = view.transport else { return };
    if is_echo_request(view.family, kind) {
        let right = icmp_checksum_is_right(packet, view);
        let mut bytes = packet.to_vec();
        turn_into_echo_reply(&mut bytes, view);
        let reply = View::of(&bytes).expect("what was readable stays so");
        assert_eq!([reply.source, reply.destination], [view.destination, view.source]);
        assert_eq!(icmp_checksum_is_right(&bytes, &reply), right, "right stays right, and wrong wrong");
    }
}

/// Calls everything, with no promise but that it comes back.
fn harmless(bytes: &[u8], view: &View, settings: &Settings) {
    let to = settings.tuple(view.family, Protocol::Tcp);
    let passage = Passage { decrement_hops: true, identification: Some(settings.identification) };
    let mut bytes = bytes.to_vec();
    let _ = reset(&bytes, view);
    let _ = icmp_error(&bytes, view, to.source.address, IcmpError::TimeExceeded);
    let _ = lacks_checksum(&bytes, view);
    let _ = icmp_checksum_is_right(&bytes, view);
    let _ = announced_mtu(&bytes, view, 3, 4);
    if let Some(quote) = Quote::of(&bytes, view) {
        quote.rewrite(&mut bytes, &to);
    }
    translate(&mut bytes, view, &to, ChecksumState::Whole, passage);
    readdress(&mut bytes, view, to.destination.address, to.source.address, passage);
    renew_icmp_checksum(&mut bytes, view);
    turn_into_echo_reply(&mut bytes, view);
}
