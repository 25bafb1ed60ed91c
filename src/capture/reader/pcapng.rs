//! The format with blocks: sections, in which interfaces are described, in which packets are.
//!
//! ```text
//!   ├ kind ┼ length ┼ … the block, with options at its end … ┼ length ┤      length: of all four
//! ```
//!
//! Both lengths must agree, and there is no way to go on where they do not. A block that is whole may still make
//! no sense within: that one is left out, and noted. (The format: draft-ietf-opsawg-pcapng.)
//!
//! pcap-parser, which reads such blocks too, takes binary time resolutions for invalid and reads time offsets and packet
//! ids as if all files were little-endian, and does not say where in a file it has found something wrong; so blocks are
//! read here, and what it reads is compared in the tests.

use std::io::Read;

use super::options::{self, Options};
use super::order::Order;
use super::source::Source;
use super::{LONGEST_PACKET, Notes, ReadError};
use crate::capture::link::LinkType;
use crate::capture::packet::{Direction, Interface, Packet, Timestamp};
use crate::packet::Offload;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const JOURNAL: u32 = 9;
const SECRETS: u32 = 10;
const CUSTOM: [u32; 2] = [0x0bad, 0x4000_0bad];

/// The number that begins a section's header, and tells the order of its bytes.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Blocks that hold packets or descriptions are no longer than this: comments beside a packet are.
const LONGEST_BLOCK: u32 = LONGEST_PACKET + (1 << 20);

/// A file describes no more interfaces than this. Each costs memory.
const MOST_INTERFACES: usize = 65_536;

/// Characters of an interface's name that are kept.
const LONGEST_NAME: usize = 256;

/// How to read the blocks of the section that we are in.
pub(super) struct PcapNg {
    order: Order,
    /// Whether this program has written the section, so that its comments mean something.
    ours: bool,
    /// Where this section's interfaces begin in the list of all.
    first: usize,
    clocks: Vec<Clock>,
    packets: u64,
}

/// How an interface tells the time.
#[derive(Clone, Copy)]
struct Clock {
    /// `if_tsresol`: ticks in a second, as a power of 10, or of 2 where the highest bit is set.
    resolution: u8,
    /// Seconds to add.
    offset: i64,
}

/// Whether the file begins as a section does.
pub(super) fn is_section(bytes: [u8; 4]) -> bool {
    u32::from_le_bytes(bytes) == SECTION
}

/// What a packet's block says, and where in it the packet is. All of it has been found to make sense.
struct Located {
    interface: usize,
    link_type: LinkType,
    time: Option<Timestamp>,
    original: u32,
    at: usize,
    kept: usize,
    has_options: bool,
}

impl PcapNg {
    pub fn new() -> Self {
        Self { order: Order::Little, ours: false, first: 0, clocks: Vec::new(), packets: 0 }
    }

    pub fn read<'a, R: Read>(
        &mut self,
        source: &'a mut Source<R>,
        interfaces: &mut Vec<Interface>,
        notes: &mut Notes,
    ) -> Result<Option<Packet<'a>>, ReadError> {
        loop {
            if source.is_at_end()? {
                return Ok(None);
            }
            let offset = source.offset();
            let Some((kind, length)) = self.next_block(source)? else { continue };
            match kind {
                SECTION | INTERFACE => {
                    let body = self.block(source, length)?;
                    if kind == SECTION {
                        self.ours = is_ours(self.order, body);
                        self.first = interfaces.len();
                    } else {
                        self.interface(body, interfaces, offset)?;
                    }
                }
                ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => {
                    self.packets += 1;
                    self.check_end(source, length)?;
                    let body = body_of(source.peek(length as usize), length);
                    match self.locate(kind, body, interfaces) {
                        Ok(located) => {
                            let block = source.take(length as usize, "a packet's block")?;
                            return Ok(Some(self.packet(&located, body_of(block, length))));
                        }
                        Err(why) => {
                            notes.packet(|| format!("at byte {offset}: packet {} {why}", self.packets));
                            source.skip(length.into(), "a packet's block")?;
                        }
                    }
                }
                NAMES | STATISTICS | JOURNAL | SECRETS => self.skip(source, length)?,
                other => {
                    if !CUSTOM.contains(&other) {
                        notes.block(|| format!("at byte {offset}: a block of kind {other:#x}"));
                    }
                    self.skip(source, length)?;
                }
            }
        }
    }

    /// The kind and length of the block that comes. A section's header also says in which order the bytes are from there on.
    fn next_block<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<(u32, u32)>, ReadError> {
        let offset = source.offset();
        let header = source.peek(12);
        let (Some(kind), Some(length)) = (header.first_chunk(), header.get(4..8)) else {
            return Err(source.ended("a block's header"));
        };
        let broken = |why| Err(ReadError::Broken { offset, why });
        let least = if is_section(*kind) {
            let Some(order) = header.get(8..12).and_then(<[u8]>::first_chunk) else {
                return Err(source.ended("a section's header"));
            };
            self.order = match (Order::Little.u32(*order), Order::Big.u32(*order)) {
                (BYTE_ORDER, _) => Order::Little,
                (_, BYTE_ORDER) => Order::Big,
                _ => return broken("a section whose byte order is neither".into()),
            };
            self.clocks.clear();
            28
        } else {
            12
        };
        let (kind, length) = (self.order.u32(*kind), self.order.u32_at(length, 0));
        if length < least || !length.is_multiple_of(4) {
            return broken(format!("a block of {length} bytes, which none can have"));
        }
        let must_fit =
            matches!(kind, SECTION | INTERFACE | ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET);
        if must_fit && length > LONGEST_BLOCK {
            return broken(format!(
                "a block of {length} bytes, where {LONGEST_BLOCK} is the most for its kind ({kind})"
            ));
        }
        Ok(Some((kind, length)))
    }

    /// The body of the block that comes, which is then behind us.
    fn block<'a, R: Read>(&self, source: &'a mut Source<R>, length: u32) -> Result<&'a [u8], ReadError> {
        self.check_end(source, length)?;
        Ok(body_of(source.take(length as usize, "a block")?, length))
    }

    /// Whether the block that comes is whole, and ends with the length that it begins with.
    fn check_end<R: Read>(&self, source: &mut Source<R>, length: u32) -> Result<(), ReadError> {
        let offset = source.offset();
        let block = source.peek(length as usize);
        let end = length as usize - 4;
        let Some(again) = block.get(end..).and_then(<[u8]>::first_chunk) else {
            return Err(source.ended("a block"));
        };
        match self.order.u32(*again) {
            again if again == length => Ok(()),
            again => Err(lengths_differ(offset, length, again)),
        }
    }

    /// Goes past a block of any length.
    fn skip<R: Read>(&self, source: &mut Source<R>, length: u32) -> Result<(), ReadError> {
        let offset = source.offset();
        source.skip(u64::from(length) - 4, "a block")?;
        let end = source.take(4, "a block")?;
        match self.order.u32_at(end, 0) {
            again if again == length => Ok(()),
            again => Err(lengths_differ(offset, length, again)),
        }
    }

    fn interface(
        &mut self,
        body: &[u8],
        interfaces: &mut Vec<Interface>,
        offset: u64,
    ) -> Result<(), ReadError> {
        let broken = |why| Err(ReadError::Broken { offset, why });
        let Some((fixed, rest)) = body.split_at_checked(8) else {
            return broken("an interface whose description is too short".into());
        };
        if interfaces.len() >= MOST_INTERFACES {
            return broken(format!("more than {MOST_INTERFACES} interfaces"));
        }
        let mut clock = Clock { resolution: 6, offset: 0 };
        let mut name = None;
        for (code, value) in Options::new(self.order, rest) {
            match (code, value) {
                (options::IF_NAME, value) => {
                    name = name.or_else(|| {
                        Some(String::from_utf8_lossy(value).chars().take(LONGEST_NAME).collect())
                    });
                }
                (options::IF_TSRESOL, &[resolution, ..]) => clock.resolution = resolution,
                (options::IF_TSOFFSET, value) if value.len() == 8 => {
                    clock.offset = self.order.u64_at(value, 0).cast_signed();
                }
                _ => {}
            }
        }
        interfaces.push(Interface {
            name,
            link_type: LinkType(self.order.u16_at(fixed, 0)),
            snap_length: self.order.u32_at(fixed, 4),
        });
        self.clocks.push(clock);
        Ok(())
    }

    fn locate(&self, kind: u32, body: &[u8], interfaces: &[Interface]) -> Result<Located, String> {
        let at = if kind == SIMPLE_PACKET { 4 } else { 20 };
        let room = body.len().checked_sub(at).ok_or("has no whole header")?;
        let [first, high, low, kept, original] = [0, 4, 8, 12, 16].map(|at| self.order.u32_at(body, at));
        let (number, ticks) = match kind {
            SIMPLE_PACKET => (0, None),
            OBSOLETE_PACKET => (self.order.u16_at(body, 0).into(), Some((high, low))),
            _ => (first, Some((high, low))),
        };
        let clock = usize::try_from(number).ok().and_then(|number| self.clocks.get(number));
        let clock = clock.ok_or_else(|| format!("is of interface {number}, which is not described"))?;
        let interface = self.first + number as usize;
        let Interface { link_type, snap_length, .. } =
            *interfaces.get(interface).ok_or("is of no interface")?;
        let (kept, original) = if kind == SIMPLE_PACKET {
            // It does not say how much of the packet was kept.
            let limit = if snap_length == 0 { u32::MAX } else { snap_length };
            (first.min(limit).min(u32::try_from(room).unwrap_or(u32::MAX)), first)
        } else {
            (kept, original)
        };
        if kept > LONGEST_PACKET {
            return Err(format!("has {kept} bytes, where {LONGEST_PACKET} is the most there can be"));
        }
        if kept as usize > room {
            return Err("is longer than its block".into());
        }
        Ok(Located {
            interface,
            link_type,
            time: ticks.map(|(high, low)| clock.time(u64::from(high) << 32 | u64::from(low))),
            original: original.max(kept),
            at,
            kept: kept as usize,
            has_options: kind != SIMPLE_PACKET,
        })
    }

    fn packet<'a>(&self, located: &Located, body: &'a [u8]) -> Packet<'a> {
        let (bytes, behind) =
            body.get(located.at..).unwrap_or_default().split_at_checked(located.kept).unwrap_or_default();
        let mut packet = Packet {
            number: self.packets,
            time: located.time,
            interface: located.interface,
            link_type: located.link_type,
            bytes,
            original_length: located.original,
            direction: None,
            id: None,
            comment: None,
            offload: Offload::default(),
        };
        if located.has_options {
            // The packet is padded to a multiple of four bytes.
            let padding = bytes.len().next_multiple_of(4) - bytes.len();
            self.packet_options(behind.get(padding..).unwrap_or_default(), &mut packet);
        }
        packet
    }

    fn packet_options<'a>(&self, bytes: &'a [u8], packet: &mut Packet<'a>) {
        for (code, value) in Options::new(self.order, bytes) {
            match code {
                options::COMMENT if packet.comment.is_none() => {
                    packet.comment = std::str::from_utf8(value).ok();
                }
                options::FLAGS if value.len() == 4 => {
                    packet.direction = match self.order.u32_at(value, 0) & 3 {
                        1 => Some(Direction::Inbound),
                        2 => Some(Direction::Outbound),
                        _ => None,
                    };
                }
                options::PACKET_ID if value.len() == 8 => packet.id = Some(self.order.u64_at(value, 0)),
                _ => {}
            }
        }
        if let (true, Some(comment)) = (self.ours, packet.comment) {
            packet.offload.segments = crate::capture::words::segments(comment);
        }
    }
}

impl Clock {
    fn time(self, ticks: u64) -> Timestamp {
        let power = u32::from(self.resolution & 0x7f);
        let ticks = u128::from(ticks);
        let nanos = if self.resolution & 0x80 != 0 {
            // 64 bits of ticks and 30 of a billion.
            (ticks * 1_000_000_000) >> power
        } else if power <= 9 {
            ticks * 10_u128.pow(9 - power)
        } else {
            10_u128.checked_pow(power - 9).map_or(0, |divisor| ticks / divisor)
        };
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let nanos = nanos.saturating_add(i128::from(self.offset) * 1_000_000_000);
        Timestamp(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// What is between the two lengths of a whole block, its kind left out.
fn body_of(block: &[u8], length: u32) -> &[u8] {
    (length as usize).checked_sub(4).and_then(|end| block.get(8..end)).unwrap_or_default()
}

/// Whether a section's header says that this program has written it.
fn is_ours(order: Order, body: &[u8]) -> bool {
    let mut options = Options::new(order, body.get(16..).unwrap_or_default());
    options.any(|(code, value)| {
        code == options::APPLICATION && value.starts_with(crate::capture::words::APPLICATION.as_bytes())
    })
}

fn lengths_differ(offset: u64, length: u32, again: u32) -> ReadError {
    ReadError::Broken {
        offset,
        why: format!("a block that begins as {length} bytes long and ends as {again}"),
    }
}
