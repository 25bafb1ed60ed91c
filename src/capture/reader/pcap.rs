//! The classic format: a header of 24 bytes, then records of 16 bytes and a packet each.
//!
//! Nothing in it tells where a record begins, so what is wrong in one ends the file.

use std::io::Read;

use super::source::Source;
use super::{LONGEST_PACKET, ReadError, order::Order};
use crate::capture::link::LinkType;
use crate::capture::packet::{Interface, Packet, Timestamp};
use crate::packet::Offload;

/// How to read the records.
pub(super) struct Pcap {
    order: Order,
    /// Nanoseconds in the unit of a time's fraction.
    unit: u64,
    /// Bytes of a record's header.
    header: usize,
    /// Files of before 1999 may have the two lengths the other way round.
    old: bool,
    link_type: LinkType,
    packets: u64,
}

/// The order and unit that the first four bytes stand for; and how long the header of a record is.
pub(super) fn magic(bytes: [u8; 4]) -> Option<(Order, u64, usize)> {
    [Order::Little, Order::Big].into_iter().find_map(|order| match order.u32(bytes) {
        0xa1b2_c3d4 => Some((order, 1_000, 16)),
        0xa1b2_3c4d => Some((order, 1, 16)),
        // Written by a libpcap of 1999 with a patch that was in many distributions.
        0xa1b2_cd34 => Some((order, 1_000, 24)),
        _ => None,
    })
}

impl Pcap {
    /// From the file's header, whose first bytes have been found to be [`magic`].
    pub fn new<R: Read>(
        (order, unit, header): (Order, u64, usize),
        source: &mut Source<R>,
    ) -> Result<(Self, Interface), ReadError> {
        let bytes = source.take(24, "the file's header")?;
        let major = order.u16_at(bytes, 4);
        let minor = order.u16_at(bytes, 6);
        let snap_length = order.u32_at(bytes, 16);
        // The upper half says whether packets end with a frame check sequence, which the IP header's length cuts off.
        let link_type = LinkType((order.u32_at(bytes, 20) & 0xffff) as u16);
        if major != 2 {
            let why = format!("version {major}.{minor} of the pcap format, where only 2 is known");
            return Err(ReadError::Broken { offset: 4, why });
        }
        let interface = Interface { name: None, link_type, snap_length };
        Ok((Self { order, unit, header, old: minor <= 3, link_type, packets: 0 }, interface))
    }

    pub fn read<'a, R: Read>(&mut self, source: &'a mut Source<R>) -> Result<Option<Packet<'a>>, ReadError> {
        if source.is_at_end()? {
            return Ok(None);
        }
        let offset = source.offset();
        let header = source.take(self.header, "a packet's header")?;
        let [seconds, fraction, kept, original] = [0, 4, 8, 12].map(|at| self.order.u32_at(header, at));
        let (kept, original) = if self.old && kept > original { (original, kept) } else { (kept, original) };
        if kept > LONGEST_PACKET {
            let why = format!("a packet of {kept} bytes, where {LONGEST_PACKET} is the most there can be");
            return Err(ReadError::Broken { offset, why });
        }
        let bytes = source.take(kept as usize, "a packet")?;
        self.packets += 1;
        let time = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit;
        Ok(Some(Packet {
            number: self.packets,
            time: Some(Timestamp(time)),
            interface: 0,
            link_type: self.link_type,
            bytes,
            original_length: original.max(kept),
            direction: None,
            id: None,
            comment: None,
            offload: Offload::default(),
        }))
    }
}
