//! A frame: one IP packet and what the kernel said about its offloads.
//!
//! A TUN device with a virtio-net header hands over packets that are not finished: their
//! checksum may hold only a pseudo-header sum, and one "packet" may be up to 64 KB of TCP
//! payload that somebody further on will cut into segments. [`Offload`] carries these
//! facts beside the bytes, so that a large segment is rewritten whole and passed on.
//!
//! ```text
//!   buffer  ├─ HEADROOM ─┼──────── packet ────────┼── spare ──┤
//!            a queue's    IP header … payload
//!            own header
//! ```
//!
//! The headroom lets a queue that frames its packets with a header of its own read and
//! write both with one system call and no copy.

/// Bytes before the packet that belong to the queue: the length of `struct virtio_net_hdr`.
pub const HEADROOM: usize = 10;

/// The longest packet: an IPv6 header and its 65,535 bytes of payload (RFC 8200 §3).
pub const MAX_PACKET: usize = 40 + 65_535;

/// The least room of a copied frame, so that an answer to its packet fits in its place.
const MIN_ROOM: usize = 1500;

/// One IP packet with its offload metadata, in a buffer that is used again and again.
#[derive(Clone)]
pub struct Frame {
    buffer: Box<[u8]>,
    length: usize,
    /// What a capture knows the packet by, which must stay with it while it waits in a core or goes to another worker.
    pub tags: Tags,
    /// What is unfinished about the packet, and must stay so described when it leaves.
    pub offload: Offload,
}

impl Frame {
    /// An empty frame with room for the longest packet.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; HEADROOM + MAX_PACKET].into_boxed_slice(),
            length: 0,
            tags: Tags::default(),
            offload: Offload::default(),
        }
    }

    /// A frame that holds a copy of `packet` and no more room than that takes, or 1,500
    /// bytes where it is shorter. Bytes past [`MAX_PACKET`] are cut off.
    pub fn copy_of(packet: &[u8], offload: Offload) -> Self {
        let packet = &packet[..packet.len().min(MAX_PACKET)];
        let mut buffer = vec![0; HEADROOM + packet.len().max(MIN_ROOM)].into_boxed_slice();
        buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
        Self { buffer, length: packet.len(), tags: Tags::default(), offload }
    }

    /// Bytes of memory that the frame occupies.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.buffer.len()
    }

    /// The packet, from its first IP header byte to its last.
    pub fn packet(&self) -> &[u8] {
        &self.buffer[HEADROOM..HEADROOM + self.length]
    }

    /// The packet, to be rewritten in place.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADROOM..HEADROOM + self.length]
    }

    /// Replaces the packet by one that `write` puts into the space it is given; `write`
    /// returns the new length, which is held to that space.
    pub fn rewrite(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        let space = &mut self.buffer[HEADROOM..];
        self.length = write(space).min(self.buffer.len() - HEADROOM);
    }

    /// Headroom and all the space for a packet, for a queue to read into; follow with
    /// [`Frame::filled`].
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Says that the packet now has `length` bytes (held to the space there is) and these offloads.
    pub fn filled(&mut self, length: usize, offload: Offload) {
        self.length = length.min(self.buffer.len() - HEADROOM);
        self.offload = offload;
    }

    /// Headroom and packet together, for a queue to put its header in front and write.
    pub fn with_headroom(&mut self) -> &mut [u8] {
        &mut self.buffer[..HEADROOM + self.length]
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} bytes, {:?}, {:02x?})", self.length, self.offload, self.packet())
    }
}

/// What a capture knows a packet by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The number that the packet was given when it came in; 0 where nobody captures.
    pub packet: u64,
    /// The number of the connection that a core sends the packet for, out of its own; `None` where it says none.
    pub flow: Option<u64>,
}

/// What is unfinished about a packet (`struct virtio_net_hdr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The state of the transport checksum.
    pub checksum: ChecksumState,
    /// How to cut the payload into segments, where the packet is larger than one.
    pub segments: Option<Segments>,
}

/// The state of a packet's transport checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumState {
    /// Complete, and nobody has looked whether it is right.
    #[default]
    Whole,
    /// Complete, and the kernel or a peer in memory vouches for it (`DATA_VALID`).
    Verified,
    /// Not complete (`NEEDS_CSUM`): the field at `start + offset` holds the uncomplemented sum
    /// of the pseudo-header, and whoever finishes it adds the bytes from `start` on.
    Partial {
        /// Where the transport header starts, from the start of the packet.
        start: u16,
        /// Where the checksum field is, from `start`: 16 in TCP, 6 in UDP.
        offset: u16,
    },
}

/// How a large packet is to be cut into segments (GSO).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Which protocol's rules apply.
    pub kind: SegmentKind,
    /// Payload bytes a segment.
    pub size: u16,
    /// The header length that the kernel gave. It is a hint and not to be believed when read.
    pub header_length: u16,
    /// The TCP segments carry CWR (RFC 3168 §6.1.2), which only the first may keep.
    pub ecn: bool,
}

/// Whose segments they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either.
    Udp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_never_claims_more_than_its_space() {
        let mut frame = Frame::copy_of(&[7; 3], Offload::default());
        frame.filled(1_000_000, Offload::default());
        assert_eq!(frame.packet().len(), 1500);
        frame.rewrite(|_| usize::MAX);
        assert_eq!(frame.packet().len(), 1500);
    }

    #[test]
    fn the_longest_packet_fits_and_one_byte_more_is_cut() {
        let frame = Frame::copy_of(&vec![1; MAX_PACKET + 1], Offload::default());
        assert_eq!(frame.packet().len(), MAX_PACKET);
    }
}
