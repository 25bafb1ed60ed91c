//! The memory queue: two ends in one process, for tests and for a lab without a TUN device.
//!
//! ```text
//!   one end ── send ──▶ at most `capacity` frames ──▶ receive ── the other end      and likewise back
//! ```
//!
//! Frames keep their offload metadata. A frame that finds no room is refused, as a device does whose
//! queue is full; an end that is dropped is to the other a device that was deleted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::queue::{LENGTH, Queue, QueueKind, gone};
use crate::packet::Frame;

/// One end of a queue in memory.
pub struct MemoryQueue {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

/// Two ends, each of which receives what the other sends; at most `capacity` frames wait each way, and never more than 4,096.
pub fn pair(capacity: usize) -> (MemoryQueue, MemoryQueue) {
    let (there, back) = (Arc::new(Pipe::new(capacity)), Arc::new(Pipe::new(capacity)));
    let other = MemoryQueue { incoming: Arc::clone(&there), outgoing: Arc::clone(&back) };
    (MemoryQueue { incoming: back, outgoing: there }, other)
}

impl Queue for MemoryQueue {
    fn receive(&mut self, frame: &mut Frame) -> io::Result<bool> {
        let mut inside = self.incoming.inside();
        let Some(waiting) = inside.frames.pop_front() else {
            return if inside.closed { Err(gone()) } else { Ok(false) };
        };
        drop(inside);
        frame.rewrite(|space| {
            let packet = waiting.packet();
            let length = packet.len().min(space.len());
            space[..length].copy_from_slice(&packet[..length]);
            length
        });
        frame.offload = waiting.offload;
        Ok(true)
    }

    fn send(&mut self, frame: &mut Frame) -> io::Result<()> {
        let copy = Frame::copy_of(frame.packet(), frame.offload);
        let mut inside = self.outgoing.inside();
        if inside.closed {
            return Err(gone());
        }
        if inside.frames.len() >= self.outgoing.capacity {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        inside.frames.push_back(copy);
        inside.wake();
        Ok(())
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }

    fn wake_with(&mut self, waker: Waker) {
        self.incoming.inside().waker = Some(waker);
    }

    fn kind(&self) -> QueueKind {
        QueueKind::Memory
    }

    fn device(&self) -> &'static str {
        "memory"
    }
}

impl Drop for MemoryQueue {
    fn drop(&mut self) {
        for pipe in [&self.incoming, &self.outgoing] {
            let mut inside = pipe.inside();
            inside.closed = true;
            inside.wake();
        }
    }
}

/// One direction.
struct Pipe {
    capacity: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    frames: VecDeque<Frame>,
    waker: Option<Waker>,
    closed: bool,
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self { capacity: capacity.min(LENGTH as usize), inside: Mutex::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::queue::is_gone;
    use crate::packet::{ChecksumState, Offload};

    #[test]
    fn frames_arrive_in_order_with_their_offloads() {
        let (mut near, mut far) = pair(8);
        let offload = Offload { checksum: ChecksumState::Verified, segments: None };
        near.send(&mut Frame::copy_of(&[1], offload)).unwrap();
        near.send(&mut Frame::copy_of(&[2], Offload::default())).unwrap();
        let mut frame = Frame::new();
        assert!(far.receive(&mut frame).unwrap());
        assert_eq!((frame.packet(), frame.offload), (&[1][..], offload));
        assert!(far.receive(&mut frame).unwrap());
        assert_eq!((frame.packet(), frame.offload), (&[2][..], Offload::default()));
        assert!(!far.receive(&mut frame).unwrap());
    }

    #[test]
    fn a_full_queue_refuses_and_loses_nothing_that_it_has() {
        let (mut near, mut far) = pair(1);
        near.send(&mut Frame::copy_of(&[1], Offload::default())).unwrap();
        let refused = near.send(&mut Frame::copy_of(&[2], Offload::default())).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        let mut frame = Frame::new();
        assert!(far.receive(&mut frame).unwrap() && frame.packet() == [1]);
    }

    #[test]
    fn a_dropped_end_is_gone_once_what_it_sent_is_read() {
        let (mut near, far) = pair(8);
        let mut frame = Frame::copy_of(&[1], Offload::default());
        let mut far = far;
        far.send(&mut frame).unwrap();
        drop(far);
        assert!(near.receive(&mut frame).unwrap());
        assert!(is_gone(&near.receive(&mut frame).unwrap_err()));
        assert!(is_gone(&near.send(&mut frame).unwrap_err()));
    }
}
