//! Writes captures with the decision beside each packet.

use std::io::{self, Write};
use std::net::IpAddr;

use super::packet::Timestamp;
use crate::datapath::Decision;
use crate::packet::Offload;

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
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn new(out: W, _about: &About) -> io::Result<Self> {
        Ok(Self { out })
    }

    /// Writes what came and what left.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn record(&mut self, _record: &Record<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Writes TLS secrets, as lines of the `SSLKEYLOGFILE` format. They must come before the packets that they decrypt.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn secrets(&mut self, _lines: &str) -> io::Result<()> {
        Ok(())
    }

    /// Ends the file, and gives back what it was written to.
    ///
    /// # Errors
    /// Where the bytes are not taken.
    pub fn finish(mut self, _statistics: Statistics) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
