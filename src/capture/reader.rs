//! Reads captures.

use std::io::Read;

use super::packet::{Interface, Packet};

/// Reads the packets of a capture, one after the other.
pub struct Reader<R> {
    _input: R,
    interfaces: Vec<Interface>,
    notes: Notes,
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

impl<R: Read> Reader<R> {
    /// Looks at the first bytes: whether they are compressed, and which format it is.
    ///
    /// # Errors
    /// Where they do not begin as a capture does, or cannot be read.
    pub fn new(input: R) -> Result<Self, ReadError> {
        Ok(Self { _input: input, interfaces: Vec::new(), notes: Notes::default() })
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// Where no more can be read. The packets before are good, and there is none after.
    pub fn read(&mut self) -> Result<Option<Packet<'_>>, ReadError> {
        Ok(None)
    }

    /// Which format it is.
    pub fn format(&self) -> Format {
        Format::Pcap
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
