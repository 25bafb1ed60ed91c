//! The least that can be called DNAT, for tests of the host's part in it: each VIP has one backend, and no
//! flow is remembered.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use fourseven::datapath::{Arrival, Datapath, Instant, Outbox, Reason, Verdict};
use fourseven::packet::{ChecksumState, Frame};

/// Rewrites packets between the VIPs and their backends, with the ICMP errors about them.
#[derive(Clone, Default)]
pub struct Dnat {
    /// A VIP and its backend, in both families.
    pub pairs: Vec<(IpAddr, IpAddr)>,
    /// Whoever has this address and talks to a backend does so past the balancer.
    pub stranger: Option<IpAddr>,
    /// The type of each ICMP message that was not ours: neighbour discovery must not be among them.
    pub foreign_icmp: Arc<Mutex<Vec<(bool, u8)>>>,
    /// How many ICMP errors were translated.
    pub errors: Arc<Mutex<Vec<(bool, u8)>>>,
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Replaces words under an Internet checksum, complemented or not (RFC 1624 §3).
fn update(sum: u16, complemented: bool, old: &[u8], new: &[u8]) -> u16 {
    let words = |bytes: &[u8], flip: u16| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]) ^ flip)).sum()
    };
    let flip = if complemented { 0xffff } else { 0 };
    let mut total = u32::from(sum ^ flip) + words(old, 0xffff) + words(new, 0);
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).unwrap() ^ flip
}

fn update_at(packet: &mut [u8], at: usize, complemented: bool, old: &[u8], new: &[u8]) {
    if let Some(field) = packet.get_mut(at..at + 2) {
        let sum = update(u16::from_be_bytes([field[0], field[1]]), complemented, old, new);
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

impl Dnat {
    /// What this address becomes where it is the first of its kind, and the second.
    fn exchanged(&self, address: &[u8], to_backend: bool) -> Option<Vec<u8>> {
        self.pairs.iter().find_map(|(vip, backend)| {
            let (from, to) = if to_backend { (vip, backend) } else { (backend, vip) };
            (octets(*from) == address).then(|| octets(*to))
        })
    }
}

impl Datapath for Dnat {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, _: Arrival, _: &mut Outbox) -> Verdict {
        let partial = matches!(frame.offload.checksum, ChecksumState::Partial { .. });
        let packet = frame.packet_mut();
        let v4 = packet[0] >> 4 == 4;
        let (source, length, header, protocol) =
            if v4 { (12, 4, 20, packet[9]) } else { (8, 16, 40, packet[6]) };
        let is_strange =
            |at: usize| self.stranger.is_some_and(|stranger| octets(stranger) == packet[at..at + length]);
        if is_strange(source) || is_strange(source + length) {
            return Verdict::Forward(Reason::NotOurs);
        }
        let icmp = protocol == if v4 { 1 } else { 58 };
        let kind = packet[header];
        let error = icmp && if v4 { matches!(kind, 3 | 11 | 12) } else { kind < 128 };
        // (place, to the backend) of each address that may be ours.
        let mut places = vec![(source, false), (source + length, true)];
        let quote = header + 8;
        if error {
            places.extend([(quote + source, true), (quote + source + length, false)]);
        }
        let mut ours = false;
        for (at, to_backend) in places {
            let Some(new) = self.exchanged(&packet[at..at + length], to_backend) else { continue };
            let old = packet[at..at + length].to_vec();
            packet[at..at + length].copy_from_slice(&new);
            ours = true;
            let quoted = at >= quote && error;
            match (quoted, v4) {
                (false, true) => update_at(packet, 10, true, &old, &new),
                // The change of the quoted address and that of its header's sum cancel out in the outer sum.
                (true, true) => update_at(packet, quote + 10, true, &old, &new),
                (_, false) => {}
            }
            match (protocol, quoted) {
                (6, _) => update_at(packet, header + 16, !partial, &old, &new),
                (17, _) => update_at(packet, header + 6, !partial, &old, &new),
                (58, _) => update_at(packet, header + 2, true, &old, &new),
                _ => {}
            }
        }
        if ours {
            if error {
                self.errors.lock().unwrap().push((v4, kind));
            }
            return Verdict::Forward(Reason::KnownFlow);
        }
        if icmp {
            self.foreign_icmp.lock().unwrap().push((v4, kind));
        }
        Verdict::Forward(Reason::NotOurs)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
