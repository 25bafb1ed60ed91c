//! The blocks of a pcapng file, little-endian, one behind the other in memory (draft-ietf-opsawg-pcapng).
//!
//! pcap-parser could write them as well, with several allocations a packet, which is most of what a packet may cost here. It
//! reads in the tests what is written.

use std::net::IpAddr;

use super::{HEADER, HEADER_LENGTH, Statistics, Timestamp, Way};
use crate::capture::link::LinkType;
use crate::capture::words::APPLICATION;

/// The longest value of an option that is written.
const LONGEST_OPTION: usize = 65_532;

const COMMENT: u16 = 1;

/// Blocks that wait to be written.
#[derive(Default)]
pub(super) struct Blocks {
    pub bytes: Vec<u8>,
}

/// One look at a packet, ready to be written.
pub(super) struct Sight<'a> {
    pub interface: u32,
    pub time: Timestamp,
    pub header: [u8; HEADER],
    pub bytes: &'a [u8],
    pub original_length: u32,
    pub way: Way,
    pub id: u64,
    pub comment: &'a str,
}

impl Blocks {
    pub fn section(&mut self, comment: &str) {
        self.block(0x0a0d_0d0a, |block| {
            block.u32(0x1a2b_3c4d);
            block.u16(1);
            block.u16(0);
            // How long the section is, is not said.
            block.bytes.extend([0xff; 8]);
            if !comment.is_empty() {
                block.option(COMMENT, comment.as_bytes());
            }
            block.option(4, format!("{APPLICATION} {}", env!("CARGO_PKG_VERSION")).as_bytes());
            block.end_of_options();
        });
    }

    pub fn interface(&mut self, link_type: LinkType, snap_length: u32, name: &str, description: &str) {
        self.block(1, |block| {
            block.u16(link_type.0);
            block.u16(0);
            block.u32(snap_length);
            block.option(2, name.as_bytes());
            block.option(3, description.as_bytes());
            // Nanoseconds.
            block.option(9, &[9]);
            block.end_of_options();
        });
    }

    pub fn names(&mut self, names: &[(IpAddr, String)]) {
        self.block(4, |block| {
            for (address, name) in names {
                let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(255).chain([0]).collect();
                match address {
                    IpAddr::V4(v4) => block.option(1, &[&v4.octets()[..], &name].concat()),
                    IpAddr::V6(v6) => block.option(2, &[&v6.octets()[..], &name].concat()),
                }
            }
            block.end_of_options();
        });
    }

    pub fn packet(&mut self, sight: &Sight<'_>) {
        self.block(6, |block| {
            block.u32(sight.interface);
            block.time(sight.time);
            let kept = u32::try_from(sight.bytes.len() + HEADER).unwrap_or(u32::MAX);
            block.u32(kept);
            block.u32(sight.original_length.saturating_add(HEADER_LENGTH).max(kept));
            block.bytes.extend_from_slice(&sight.header);
            block.bytes.extend_from_slice(sight.bytes);
            block.pad();
            block.option(2, &(sight.way as u32).to_le_bytes());
            block.option(5, &sight.id.to_le_bytes());
            block.option(COMMENT, sight.comment.as_bytes());
            block.end_of_options();
        });
    }

    pub fn secrets(&mut self, lines: &str) {
        let Ok(length) = u32::try_from(lines.len()) else { return };
        self.block(10, |block| {
            // "TLSK": lines as browsers write them.
            block.u32(0x544c_534b);
            block.u32(length);
            block.bytes.extend_from_slice(lines.as_bytes());
        });
    }

    /// Said of the first interface, for both: a packet that is not in the file was on neither.
    pub fn statistics(&mut self, time: Timestamp, statistics: Statistics) {
        self.block(5, |block| {
            block.u32(0);
            block.time(time);
            block.option(COMMENT, b"of both interfaces together");
            block.option(4, &statistics.received.to_le_bytes());
            block.option(5, &statistics.lost.to_le_bytes());
            block.end_of_options();
        });
    }

    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(kind);
        self.u32(0);
        body(self);
        self.pad();
        let length = u32::try_from(self.bytes.len() - start + 4).unwrap_or(u32::MAX);
        self.u32(length);
        if let Some(field) = self.bytes.get_mut(start + 4..).and_then(<[u8]>::first_chunk_mut) {
            *field = length.to_le_bytes();
        }
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = value.get(..LONGEST_OPTION).unwrap_or(value);
        self.u16(code);
        self.u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn end_of_options(&mut self) {
        self.u32(0);
    }

    fn time(&mut self, time: Timestamp) {
        self.u32((time.0 >> 32) as u32);
        self.u32((time.0 & 0xffff_ffff) as u32);
    }

    fn u16(&mut self, number: u16) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    /// Every block begins at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
