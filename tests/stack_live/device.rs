//! A TUN device by tun-rs, with and without the virtio-net header.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use fourseven::l7::stack::Offloads;
use fourseven::packet::{ChecksumState, Frame, HEADROOM, Offload, SegmentKind, Segments};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// A TUN device that does not block.
pub struct Device {
    device: SyncDevice,
    /// What it does for us.
    pub offloads: Offloads,
}

impl Device {
    /// Makes the device, with the client's addresses on it.
    pub fn open(offloads: Offloads) -> io::Result<Self> {
        let device = DeviceBuilder::new()
            .name("fs0")
            .layer(Layer::L3)
            .mtu(1500)
            .ipv4("10.47.1.1", 24, None)
            .ipv6("fd47:1::1", 64)
            .offload(offloads == Offloads::Segments)
            .build_sync()?;
        device.set_nonblocking(true)?;
        Ok(Self { device, offloads })
    }

    /// Reads a frame, if there is one.
    pub fn receive(&self, frame: &mut Frame) -> io::Result<bool> {
        let headroom = match self.offloads {
            Offloads::Segments => 0,
            Offloads::None => HEADROOM,
        };
        let read = match self.device.recv(&mut frame.space()[headroom..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let (length, offload) = match self.offloads {
            Offloads::None => (read, Offload::default()),
            Offloads::Segments => {
                let header = *frame.space().first_chunk().expect("a frame has headroom");
                (read - HEADROOM, read_header(header))
            }
        };
        frame.filled(length, offload);
        Ok(true)
    }

    /// Writes a frame.
    pub fn send(&self, frame: &mut Frame) -> io::Result<()> {
        match self.offloads {
            Offloads::None => self.device.send(frame.packet()).map(drop),
            Offloads::Segments => {
                let header = write_header(&frame.offload, frame.packet());
                let whole = frame.with_headroom();
                whole[..HEADROOM].copy_from_slice(&header);
                self.device.send(whole).map(drop)
            }
        }
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.device.as_raw_fd()
    }
}

fn read_header([flags, kind, hl0, hl1, gs0, gs1, cs0, cs1, co0, co1]: [u8; HEADROOM]) -> Offload {
    let checksum = match flags {
        flags if flags & 1 != 0 => ChecksumState::Partial {
            start: u16::from_ne_bytes([cs0, cs1]),
            offset: u16::from_ne_bytes([co0, co1]),
        },
        flags if flags & 2 != 0 => ChecksumState::Verified,
        _ => ChecksumState::Whole,
    };
    let segments = (kind != 0).then(|| Segments {
        kind: if kind & 0x7f == 1 { SegmentKind::TcpV4 } else { SegmentKind::TcpV6 },
        size: u16::from_ne_bytes([gs0, gs1]),
        header_length: u16::from_ne_bytes([hl0, hl1]),
        ecn: kind & 0x80 != 0,
    });
    Offload { checksum, segments }
}

fn write_header(offload: &Offload, packet: &[u8]) -> [u8; HEADROOM] {
    let mut header = [0; HEADROOM];
    if let ChecksumState::Partial { start, offset } = offload.checksum {
        header[0] = 1;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        header[8..10].copy_from_slice(&offset.to_ne_bytes());
    }
    if let Some(segments) = offload.segments {
        header[1] = if packet[0] >> 4 == 4 { 1 } else { 4 };
        header[2..4].copy_from_slice(&segments.header_length.to_ne_bytes());
        header[4..6].copy_from_slice(&segments.size.to_ne_bytes());
    }
    header
}
