//! One packet of a capture, and the interface that it was seen on.

use std::fmt;

use super::link::{Ip, LinkType, NotIp};
use crate::packet::Offload;

/// Nanoseconds since 1970 began, in UTC: 64 bits last until 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    /// Seconds and nanoseconds, as `tshark -t e` has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// What it is called, where the file says so.
    pub name: Option<String>,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// The most bytes that were kept of a packet, as the file says; 0 is no limit. Not to be believed.
    pub snap_length: u32,
}

/// Which way a packet went, as the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the host that captured it.
    Inbound,
    /// Out of it.
    Outbound,
}

/// A packet as it lies in a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its place in the file, from 1, as Wireshark counts (`frame.number`).
    pub number: u64,
    /// When it was seen; `None` where the file does not say (pcapng's simple packets).
    pub time: Option<Timestamp>,
    /// The place of its interface in [`Reader::interfaces`](super::Reader::interfaces).
    pub interface: usize,
    /// What `bytes` begin with.
    pub link_type: LinkType,
    /// What was kept of it, with the header of its link.
    pub bytes: &'a [u8],
    /// How long it was. Never less than what was kept of it.
    pub original_length: u32,
    /// Which way it went.
    pub direction: Option<Direction>,
    /// The id that it shares with other sights of the same packet (`frame.packet_id`).
    pub id: Option<u64>,
    /// The first comment, where it is UTF-8.
    pub comment: Option<&'a str>,
    /// What the kernel said of its offloads: our own files tell, others leave it at the default.
    pub offload: Offload,
}

impl<'a> Packet<'a> {
    /// Whether something of it was not kept.
    pub fn is_snapped(&self) -> bool {
        self.bytes.len() < self.original_length as usize
    }

    /// The IP packet in it, without the link's header and what follows the packet.
    ///
    /// # Errors
    /// Where there is none.
    pub fn ip(&self) -> Result<Ip<'a>, NotIp> {
        self.link_type.ip(self.bytes, self.original_length)
    }
}
