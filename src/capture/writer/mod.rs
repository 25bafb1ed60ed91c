//! Writes captures with the decision beside each packet: a pcapng file for Wireshark, tshark and tcpdump.
//!
//! ```text
//!   section     who wrote it and how
//!   interfaces  0: the clients' side, 1: the backends' side
//!   names       of addresses
//!   packets     ├ as it came, on the side it came from ┼ as it left, on the side it left to ┤ with one id and one comment
//!   secrets     of TLS, anywhere, before the packets that they decrypt
//!   statistics  at the end: how many packets are not in the file because the writer did not keep up
//! ```
//!
//! - Packets have an Ethernet header, which is made up: of tcpdump's library, files with two interfaces of raw IP cannot
//!   be read, nor those whose interfaces differ in kind or snap length (libpcap issues 1252 and 1078). It also tells the
//!   sides apart where a program shows no interfaces.
//! - A checksum that the kernel has left unfinished is finished, as the network card would have done, so that nobody takes a good
//!   packet for a bad one. Only of a packet that is not whole it cannot be. One that is wrong stays wrong.
//! - A large segment, up to 64 KB that a network card is still to cut, is written whole: it is what was decided about. The
//!   comment says how it is to be cut (`gso=tcp4/1448`), and [`Reader`](super::Reader) gives that back.

mod blocks;
mod comment;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::IpAddr;

use self::blocks::Blocks;
use super::link::LinkType;
use crate::capture::packet::Timestamp;
use crate::datapath::{Decision, Side, Verdict};
use crate::packet::{ChecksumState, Offload, checksum};

/// Bytes that are gathered before they are written.
const BATCH: usize = 64 << 10;

/// Longer than the longest packet, and what tcpdump takes without being told to.
const SNAP_LENGTH: u32 = 262_144;

/// The header that is put in front of a packet.
const HEADER: usize = 14;
const HEADER_LENGTH: u32 = 14;

/// What a file says about itself before its first packet.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What made it, and how: the command line, the mode, a seed.
    pub comment: String,
    /// Names for addresses.
    pub names: Vec<(IpAddr, String)>,
}

/// One look at a packet.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// From the first byte of the IP header.
    pub bytes: &'a [u8],
    /// How long it was; more than there is where the rest was not kept.
    pub original_length: u32,
    /// What was unfinished about it.
    pub offload: Offload,
}

/// One packet's way through the balancer.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When.
    pub time: Timestamp,
    /// The packet's id, the same for what came and what left.
    pub id: u64,
    /// As it came; `None` for what the balancer sent on its own, or let go later.
    pub came: Option<Picture<'a>>,
    /// As it left; `None` where it did not.
    pub left: Option<Picture<'a>>,
    /// What was decided.
    pub decision: Decision,
}

/// What a file says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets that came in while it was written.
    pub received: u64,
    /// How many of those are not in it because the writer did not keep up.
    pub lost: u64,
}

/// Writes a pcapng file.
pub struct Writer<W> {
    out: W,
    blocks: Blocks,
    comment: String,
    last: Timestamp,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn new(out: W, about: &About) -> io::Result<Self> {
        let mut blocks = Blocks::default();
        blocks.section(&about.comment);
        for side in [Side::Client, Side::Backend] {
            let (name, description) = match side {
                Side::Client => ("clients", "packets from and to clients"),
                Side::Backend => ("backends", "packets from and to backends"),
            };
            blocks.interface(LinkType::ETHERNET, SNAP_LENGTH, name, description);
        }
        if !about.names.is_empty() {
            blocks.names(&about.names);
        }
        let mut writer = Self { out, blocks, comment: String::new(), last: Timestamp::default() };
        writer.flush()?;
        Ok(writer)
    }

    /// Writes what came and what left.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.last = self.last.max(record.time);
        self.comment.clear();
        comment::write(&mut self.comment, record);
        let (came, left) = sides(&record.decision);
        if let Some(picture) = &record.came {
            self.sight(record, picture, came, Way::In);
        }
        if let Some(picture) = &record.left {
            self.sight(record, picture, left, Way::Out);
        }
        if self.blocks.bytes.len() >= BATCH { self.pass_on() } else { Ok(()) }
    }

    /// Writes TLS secrets, as lines of the `SSLKEYLOGFILE` format. They must come before the packets that they decrypt.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn secrets(&mut self, lines: &str) -> io::Result<()> {
        self.blocks.secrets(lines);
        if self.blocks.bytes.len() >= BATCH { self.pass_on() } else { Ok(()) }
    }

    /// Passes on what has been gathered, for whoever reads along.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.out.flush()
    }

    /// Ends the file, and gives back what it was written to.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn finish(mut self, statistics: Statistics) -> io::Result<W> {
        self.blocks.statistics(self.last, statistics);
        self.flush()?;
        Ok(self.out)
    }

    fn sight(&mut self, record: &Record<'_>, picture: &Picture<'_>, side: Side, way: Way) {
        let whole = finished(picture);
        self.blocks.packet(&blocks::Sight {
            interface: side as u32,
            time: record.time,
            header: ethernet(side, way, picture.bytes),
            bytes: &whole,
            original_length: picture.original_length,
            way,
            id: record.id,
            comment: &self.comment,
        });
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.blocks.bytes);
        self.blocks.bytes.clear();
        written
    }
}

/// Into the balancer or out of it.
#[derive(Clone, Copy)]
enum Way {
    In = 1,
    Out = 2,
}

/// The sides that a packet came from and left to.
fn sides(decision: &Decision) -> (Side, Side) {
    let from = decision.side;
    let to = match decision.verdict {
        Some(Verdict::Forward(_)) => from.reversed(),
        _ => from,
    };
    (from, to)
}

/// The header of a link that is not there. The addresses are locally administered; the last byte of the others' is `c` for
/// clients and `b` for backends.
fn ethernet(side: Side, way: Way, packet: &[u8]) -> [u8; HEADER] {
    let (other, ours) = match side {
        Side::Client => (0x0c, 0xc0),
        Side::Backend => (0x0b, 0xb0),
    };
    let (to, from) = match way {
        Way::In => (ours, other),
        Way::Out => (other, ours),
    };
    let [kind_high, kind_low] = match packet.first().map(|byte| byte >> 4) {
        Some(4) => [0x08, 0x00],
        Some(6) => [0x86, 0xdd],
        // For local experiments (IEEE 802): what is neither.
        _ => [0x88, 0xb5],
    };
    [2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, kind_high, kind_low]
}

/// The packet with its checksum, where the kernel had left that to a network card.
fn finished<'a>(picture: &Picture<'a>) -> Cow<'a, [u8]> {
    finish(picture).map_or(Cow::Borrowed(picture.bytes), Cow::Owned)
}

fn finish(picture: &Picture<'_>) -> Option<Vec<u8>> {
    let ChecksumState::Partial { start, offset } = picture.offload.checksum else { return None };
    if picture.bytes.len() < picture.original_length as usize {
        return None;
    }
    // The field holds the sum of the pseudo-header, and is summed with the rest.
    let start = usize::from(start);
    let sum = !checksum::sum(0, picture.bytes.get(start..)?);
    let mut whole = picture.bytes.to_vec();
    let field = whole.get_mut(start.checked_add(offset.into())?..)?.first_chunk_mut()?;
    // A sum of zero means in UDP that there is none (RFC 768), and the other zero is as good for TCP.
    *field = if sum == 0 && offset == 6 { [0xff; 2] } else { sum.to_be_bytes() };
    Some(whole)
}
