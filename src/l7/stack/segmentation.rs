//! Cutting a large TCP packet into segments, for a device that does not do it.
//!
//! smoltcp builds large packets on any device: its congestion window grows by one of its
//! segments for each acknowledgement, and starts at two small ones, so that with segments of
//! the path's size it would crawl. Here they are cut as a device would: each piece has the
//! headers of the whole, its own sequence number and lengths, and a complete checksum; FIN
//! and PSH are for the last one.

use crate::packet::{Frame, Offload, checksum};

/// FIN and PSH in the byte of TCP's flags.
const LAST_ONLY: u8 = 0x01 | 0x08;

/// Cuts `whole`, whose offload says how, and gives each piece to `sink`, in `piece`.
pub(super) fn cut(whole: &Frame, piece: &mut Frame, sink: &mut impl FnMut(&mut Frame)) {
    let Some(segments) = whole.offload.segments else { return };
    let Some((headers, payload)) = whole.packet().split_at_checked(usize::from(segments.header_length))
    else {
        return;
    };
    let parts = payload.chunks(usize::from(segments.size.max(1)));
    let last = parts.len().saturating_sub(1);
    let mut done = 0u32;
    for (number, part) in parts.enumerate() {
        piece.rewrite(|space| {
            let length = headers.len() + part.len();
            let Some(space) = space.get_mut(..length) else { return 0 };
            let (front, back) = space.split_at_mut(headers.len());
            front.copy_from_slice(headers);
            back.copy_from_slice(part);
            finish(space, done, number == last);
            length
        });
        piece.offload = Offload::default();
        done = done.wrapping_add(u32::from(segments.size));
        sink(piece);
    }
}

/// Mends the headers of a piece that begins `done` bytes into the whole.
fn finish(packet: &mut [u8], done: u32, last: bool) {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let (at, addresses) = match packet.first().map(|byte| byte >> 4) {
        Some(4) => (20, 12..20),
        Some(6) => (40, 8..40),
        _ => return,
    };
    let Some((ip, tcp)) = packet.split_at_mut_checked(at) else { return };
    if at == 20 {
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip[10..12].fill(0);
        let sum = checksum::of(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        ip[4..6].copy_from_slice(&length.saturating_sub(40).to_be_bytes());
    }
    let (source, destination) = ip[addresses.clone()].split_at(addresses.len() / 2);
    let pseudo = checksum::pseudo_header(source, destination, 6, tcp.len());
    let Some(header) = tcp.first_chunk_mut::<20>() else { return };
    let [_, _, _, _, a, b, c, d, ..] = *header;
    let sequence = u32::from_be_bytes([a, b, c, d]).wrapping_add(done);
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        header[13] &= !LAST_ONLY;
    }
    header[16..18].fill(0);
    let sum = !checksum::sum(pseudo, tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}
