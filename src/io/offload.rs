//! The offload queue: a TUN device that hands over up to 64 KB a system call, unfinished and described.
//!
//! With `IFF_VNET_HDR` each packet is preceded by a virtio header (`virtio.rs`). That header lies in the
//! frame's headroom, so that header and packet are read and written together, and nothing is copied. A large
//! segment is never cut here: tun-rs's `recv_multiple` does that, its plain `recv` does not.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::queue::{Queue, QueueKind, nothing_now};
use super::virtio;
use crate::packet::{Frame, HEADROOM, Offload};

/// One of the queues of a TUN device with offloads.
pub struct OffloadQueue {
    device: SyncDevice,
    name: Arc<str>,
}

impl OffloadQueue {
    /// Makes the device with that many queues, or attaches to one that is there and not in use.
    pub(super) fn open(name: &str, queues: usize) -> io::Result<Vec<Self>> {
        let device = DeviceBuilder::new()
            .name(name)
            .layer(Layer::L3)
            .offload(true)
            .multi_queue(queues > 1)
            .inherit_enable_state()
            .build_sync()?;
        let name: Arc<str> = name.into();
        let mut devices = vec![device];
        while devices.len() < queues {
            let [first, ..] = &devices[..] else { break };
            let clone = first.try_clone()?;
            devices.push(clone);
        }
        let ready = |device: SyncDevice| {
            device.set_nonblocking(true)?;
            Ok(Self { device, name: Arc::clone(&name) })
        };
        devices.into_iter().map(ready).collect()
    }

    /// Whether large UDP packets come whole as well, which Linux 6.2 brought.
    pub(super) fn udp_segments(&self) -> bool {
        self.device.udp_gso()
    }
}

impl Queue for OffloadQueue {
    fn receive(&mut self, frame: &mut Frame) -> io::Result<bool> {
        let read = match self.device.recv(frame.space()) {
            Ok(read) => read,
            Err(error) => return nothing_now(error),
        };
        let header = frame.space().first_chunk().copied();
        let length = read.checked_sub(HEADROOM);
        let offload = header.zip(length).and_then(|(header, length)| virtio::read(header, length));
        match (length, offload) {
            (Some(length), Some(offload)) => frame.filled(length, offload),
            _ => frame.filled(0, Offload::default()),
        }
        Ok(true)
    }

    fn send(&mut self, frame: &mut Frame) -> io::Result<()> {
        let header = virtio::write(&frame.offload, frame.packet()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the packet is not what its offloads say")
        })?;
        let whole = frame.with_headroom();
        if let Some(front) = whole.first_chunk_mut() {
            *front = header;
        }
        self.device.send(whole).map(drop)
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.device.as_raw_fd())
    }

    fn kind(&self) -> QueueKind {
        QueueKind::Offload
    }

    fn device(&self) -> &str {
        &self.name
    }
}
