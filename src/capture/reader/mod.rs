//! Reads captures: pcap and pcapng, in either byte order, plain or compressed by gzip or zstd.
//!
//! Whatever the bytes say is held against the bytes that are there. What makes no sense but lets one go on is left out
//! and [noted](Notes); where one cannot go on, the error says where that was. Memory is bounded by the longest packet
//! that there can be and the window of the compression, whatever the file promises.

mod options;
mod order;
mod pcap;
mod pcapng;
mod source;

#[cfg(test)]
mod tests;

use std::io::Read;

use self::pcap::Pcap;
use self::pcapng::PcapNg;
use self::source::Source;
use crate::capture::packet::{Interface, Packet};

/// The longest packet that is read: what libpcap and Wireshark take for the most that there can be. The longest IP packet
/// and the headers of its link are a quarter of it.
const LONGEST_PACKET: u32 = 262_144;

/// Reads the packets of a capture, one after the other.
pub struct Reader<R: Read> {
    source: Source<R>,
    kind: Kind,
    interfaces: Vec<Interface>,
    notes: Notes,
    ended: bool,
}

enum Kind {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// What a capture is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The classic format.
    Pcap,
    /// The format with blocks.
    PcapNg,
}

/// What was found in a capture beside packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Blocks of kinds that are not read.
    pub blocks_skipped: u64,
    /// Packets that could not be used: of an interface that was not described, or longer than their block.
    pub packets_skipped: u64,
    /// The first of the two, in words.
    pub first: Option<String>,
}

/// Why no more can be read from a capture. What was read before stands.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes do not begin as a capture does.
    #[error("not a capture: it begins with {found}, and neither pcap nor pcapng does")]
    NotACapture {
        /// The first bytes, in hexadecimal digits, or that there are none.
        found: String,
    },
    /// It ends in the middle of something.
    #[error("the capture ends at byte {offset}, in the middle of {what}")]
    CutOff {
        /// How many bytes there were, after decompression.
        offset: u64,
        /// What is not whole.
        what: &'static str,
    },
    /// Something in it makes no sense.
    #[error("at byte {offset}: {why}")]
    Broken {
        /// Where it begins, after decompression.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The bytes could not be read or decompressed.
    #[error("after byte {offset}: {source}")]
    Input {
        /// How many bytes there were before, after decompression.
        offset: u64,
        /// Why.
        source: std::io::Error,
    },
}

impl Notes {
    fn block(&mut self, what: impl FnOnce() -> String) {
        self.blocks_skipped += 1;
        self.first.get_or_insert_with(what);
    }

    fn packet(&mut self, what: impl FnOnce() -> String) {
        self.packets_skipped += 1;
        self.first.get_or_insert_with(what);
    }
}

impl<R: Read> Reader<R> {
    /// Looks at the first bytes: whether they are compressed, and which format it is.
    ///
    /// # Errors
    /// Where they do not begin as a capture does, or cannot be read.
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut source = Source::new(input)?;
        let first = source.peek(4);
        let Some(first) = first.first_chunk().copied() else {
            let found = hexadecimal(first);
            // An error of the input is more to the point.
            source.is_at_end()?;
            return Err(ReadError::NotACapture { found });
        };
        let mut interfaces = Vec::new();
        let kind = if pcapng::is_section(first) {
            Kind::PcapNg(PcapNg::new())
        } else {
            let Some(magic) = pcap::magic(first) else {
                return Err(ReadError::NotACapture { found: hexadecimal(&first) });
            };
            let (pcap, interface) = Pcap::new(magic, &mut source)?;
            interfaces.push(interface);
            Kind::Pcap(pcap)
        };
        Ok(Self { source, kind, interfaces, notes: Notes::default(), ended: false })
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// Where no more can be read. The packets before are good, and there is none after.
    pub fn read(&mut self) -> Result<Option<Packet<'_>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let Self { source, kind, interfaces, notes, ended } = self;
        let read = match kind {
            Kind::Pcap(pcap) => pcap.read(source),
            Kind::PcapNg(pcapng) => pcapng.read(source, interfaces, notes),
        };
        *ended = !matches!(read, Ok(Some(_)));
        read
    }

    /// Which format it is.
    pub fn format(&self) -> Format {
        match self.kind {
            Kind::Pcap(_) => Format::Pcap,
            Kind::PcapNg(_) => Format::PcapNg,
        }
    }

    /// The interfaces that have been described so far, over all sections.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// What was found beside packets so far.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    bytes.iter().fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"))
}
