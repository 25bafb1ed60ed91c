//! The plain queue: a TUN device as it comes, one packet of at most the MTU a system call.
//!
//! It works on any kernel, needs nothing but the device, and shows what the offload queue saves.
//! Checksums are whole in both directions, since the kernel finishes them for a device without offloads.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use tun_tap::{Iface, Mode};

use super::queue::{Queue, QueueKind};
use crate::packet::{Frame, HEADROOM, Offload};

/// The one queue of a TUN device without offloads.
#[derive(Debug)]
pub struct PlainQueue {
    device: Iface,
}

impl PlainQueue {
    /// Makes the device, or attaches to one that is there and not in use.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let device = Iface::without_packet_info(name, Mode::Tun)?;
        device.set_non_blocking()?;
        Ok(Self { device })
    }
}

impl Queue for PlainQueue {
    fn receive(&mut self, frame: &mut Frame) -> io::Result<bool> {
        let space = frame.space().get_mut(HEADROOM..).unwrap_or_default();
        match self.device.recv(space) {
            Ok(length) => {
                frame.filled(length, Offload::default());
                Ok(true)
            }
            Err(error) => super::queue::nothing_now(error),
        }
    }

    fn send(&mut self, frame: &mut Frame) -> io::Result<()> {
        self.device.send(frame.packet()).map(drop)
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.device.as_raw_fd())
    }

    fn kind(&self) -> QueueKind {
        QueueKind::Plain
    }

    fn device(&self) -> &str {
        self.device.name()
    }
}
