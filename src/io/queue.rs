//! A queue: where frames come from, and where they go.
//!
//! ```text
//!            receive                      send
//!   kernel ──────────▶ Frame ── core ──▶ Frame ──────▶ kernel
//! ```
//!
//! A queue belongs to one worker, and nothing about it blocks: the worker asks, and where there is
//! nothing it waits for the queue's file descriptor beside its own waker.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::task::Waker;

use nix::errno::Errno;

use crate::packet::Frame;

/// The most frames that wait in a queue for its worker. The kernel's default for a TUN device is 500.
pub(super) const LENGTH: u32 = 4096;

/// One queue of a device: frames in, frames out.
pub trait Queue: Send {
    /// Reads the next frame; `false` where there is none now.
    ///
    /// An empty frame says that something came whose framing makes no sense. It is to be counted as
    /// malformed, and not to be looked at.
    ///
    /// # Errors
    /// [`is_gone`] tells the error of a device that was deleted; any other is a defect of the queue.
    fn receive(&mut self, frame: &mut Frame) -> io::Result<bool>;

    /// Writes one frame with its offload metadata. What is in its headroom is overwritten.
    ///
    /// # Errors
    /// [`is_gone`] tells the error of a device that was deleted; any other is about this frame only.
    fn send(&mut self, frame: &mut Frame) -> io::Result<()>;

    /// What becomes readable when a frame can be received, where there is such a thing.
    fn raw_fd(&self) -> Option<RawFd>;

    /// Takes what must be woken when a frame can be received. Only a queue without a file descriptor
    /// has a use for it.
    fn wake_with(&mut self, _waker: Waker) {}

    /// What kind of queue it is.
    fn kind(&self) -> QueueKind;

    /// The device that it is a queue of.
    fn device(&self) -> &str;
}

/// The kinds of queue there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// A TUN device with the virtio header: large segments and unfinished checksums pass whole.
    Offload,
    /// A TUN device as it comes: one packet of at most the MTU a system call.
    Plain,
    /// The other end is in this process.
    Memory,
}

impl QueueKind {
    /// The one word for it, as the configuration has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Offload => "offload",
            Self::Plain => "plain",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for QueueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Whether a queue's error says that its device no longer exists.
///
/// `drivers/net/tun.c` says EBADFD once the device is detached from the descriptor; a reader that it
/// catches in the middle of the removal gets EFAULT.
pub fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::EBADFD, Errno::EFAULT];
    error.raw_os_error().is_some_and(|number| gone.iter().any(|errno| *errno as i32 == number))
}

/// What an error of a non-blocking read means: that there is nothing now, or that it failed.
pub(super) fn nothing_now(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        _ => Err(error),
    }
}

/// The error of a queue whose other end is gone, as a TUN device gives it.
pub(super) fn gone() -> io::Error {
    io::Error::from_raw_os_error(Errno::EBADFD as i32)
}
