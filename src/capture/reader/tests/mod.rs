//! Files of every kind, made by hand, whole and broken.

mod any_bytes;
mod broken;
mod formats;
mod links;

use super::*;

/// A file as it is put together, in one byte order.
#[derive(Clone)]
pub(super) struct File {
    pub bytes: Vec<u8>,
    big: bool,
}

impl File {
    pub fn new(big: bool) -> Self {
        Self { bytes: Vec::new(), big }
    }

    pub fn u16(mut self, number: u16) -> Self {
        self.bytes.extend(if self.big { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }

    pub fn u32(mut self, number: u32) -> Self {
        self.bytes.extend(if self.big { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// The header of a pcap file.
    pub fn pcap(self, magic: u32, link_type: u32) -> Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65_535).u32(link_type)
    }

    /// A record of a pcap file.
    pub fn record(self, seconds: u32, fraction: u32, bytes: &[u8], original: u32) -> Self {
        let kept = u32::try_from(bytes.len()).unwrap();
        self.u32(seconds).u32(fraction).u32(kept).u32(original).raw(bytes)
    }

    /// A block of a pcapng file around what `body` puts into it.
    pub fn block(self, kind: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let inner = body(Self::new(self.big)).pad();
        let length = u32::try_from(inner.bytes.len() + 12).unwrap();
        self.u32(kind).u32(length).raw(&inner.bytes).u32(length)
    }

    pub fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |block| block.u32(0x1a2b_3c4d).u16(1).u16(0).raw(&[0xff; 8]))
    }

    pub fn interface(self, link_type: u16, snap_length: u32, options: impl FnOnce(Self) -> Self) -> Self {
        self.block(1, |block| options(block.u16(link_type).u16(0).u32(snap_length)))
    }

    pub fn option(self, code: u16, value: &[u8]) -> Self {
        self.u16(code).u16(u16::try_from(value.len()).unwrap()).raw(value).pad()
    }

    pub fn u64_option(self, code: u16, value: u64) -> Self {
        let bytes = if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        self.option(code, &bytes)
    }

    pub fn packet(
        self,
        interface: u32,
        ticks: u64,
        bytes: &[u8],
        options: impl FnOnce(Self) -> Self,
    ) -> Self {
        self.block(6, |block| {
            let kept = u32::try_from(bytes.len()).unwrap();
            let block = block.u32(interface).u32((ticks >> 32) as u32).u32((ticks & 0xffff_ffff) as u32);
            options(block.u32(kept).u32(kept).raw(bytes).pad())
        })
    }

    fn pad(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

/// What a test wants of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub number: u64,
    pub nanos: Option<u64>,
    pub interface: usize,
    pub bytes: Vec<u8>,
    pub original: u32,
}

/// Reads to the end, which may be an error.
pub(super) fn read_all(bytes: &[u8]) -> (Vec<Got>, Result<Notes, ReadError>) {
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut packets = Vec::new();
    loop {
        match reader.read() {
            Ok(None) => return (packets, Ok(reader.notes().clone())),
            Err(error) => {
                assert!(matches!(reader.read(), Ok(None)), "after an error there is nothing");
                return (packets, Err(error));
            }
            Ok(Some(packet)) => {
                assert!(packet.original_length as usize >= packet.bytes.len());
                // Must not panic, whatever is in it.
                let _ = packet.ip();
                packets.push(Got {
                    number: packet.number,
                    nanos: packet.time.map(|time| time.0),
                    interface: packet.interface,
                    bytes: packet.bytes.to_vec(),
                    original: packet.original_length,
                });
            }
        }
    }
}

/// A file with two sections in different byte orders, three interfaces and every kind of packet.
pub(super) fn rich() -> Vec<u8> {
    let first = File::new(false)
        .section()
        .interface(1, 0, |options| options.option(2, b"eth0").option(9, &[9]))
        .interface(101, 96, |options| options)
        .packet(1, 5_000_000, &[0x45; 21], |options| options.option(1, b"a comment").option(0, &[]))
        .packet(0, 7_000_000_001, &[1; 60], |options| options)
        .block(3, |block| block.u32(4).raw(&[9; 4]))
        .block(0x1234_5678, |block| block.raw(b"nobody knows"));
    File::new(true)
        .raw(&first.bytes)
        .section()
        .interface(228, u32::MAX, |options| options.u64_option(14, 100).option(9, &[0x8a]))
        .block(2, |block| block.u16(0).u16(7).u32(0).u32(2048).u32(3).u32(99).raw(&[4; 3]))
        .packet(0, 1024, &[5; 5], |options| options.option(2, &[0, 0, 0, 1]).u64_option(5, 7))
        .bytes
}
