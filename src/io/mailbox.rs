//! Mailboxes: frames that one worker's core hands over to another's.
//!
//! The kernel steers most packets of a flow to the queue of the worker that owns it, so mail is rare. What
//! must cost nothing is an empty mailbox: its owner looks at one number and takes no lock.
//!
//! ```text
//!   sender    lock, push, unlock ─▶ count += 1 ─▶ asleep? then wake
//!   owner     asleep = true ─▶ count == 0? then sleep
//! ```
//!
//! Both write before they read, in one total order, so one of them always sees the other: the
//! owner never sleeps over mail.
//!
//! Mail keeps its order, but has none with the owner's queue. Where a core must know that nothing of a flow is left behind
//! in another worker's queue, it has that worker asked for a *fence*: a note to it, and one back, which lies
//! behind every letter of frames that were in that queue before. Notes are few, one each way between two workers at a time,
//! and there is always room for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use crate::datapath::{WorkerId, WorkerSet};
use crate::packet::Frame;

/// At most this many frames wait in one mailbox …
const MOST_FRAMES: usize = 1024;
/// … and this many bytes.
const MOST_BYTES: usize = 16 << 20;

/// A frame on its way to the worker that owns its flow.
pub(super) struct Letter {
    pub frame: Frame,
    /// The workers that it came by.
    pub visited: WorkerSet,
    /// The first of them, on whose queue it came.
    pub queue: WorkerId,
}

/// What lies in a mailbox.
pub(super) enum Mail {
    Letter(Letter),
    /// That worker wants to know when all has been read that lies in the owner's queue now.
    FenceAsked(WorkerId),
    /// All that lay in that worker's queue when it was asked has been read.
    FencePassed(WorkerId),
}

/// The mailboxes of a team of workers.
pub(super) struct Post(Box<[Mailbox]>);

impl Post {
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| Mailbox::default()).collect()))
    }

    pub fn mailbox(&self, of: WorkerId) -> Option<&Mailbox> {
        self.0.get(of.index())
    }
}

/// One worker's mailbox. Aligned so that two owners never look at one cache line.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Mailbox {
    waiting: AtomicUsize,
    asleep: AtomicBool,
    waker: OnceLock<Waker>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    mail: VecDeque<Mail>,
    bytes: usize,
}

/// The mailbox has no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Mailbox {
    /// Puts a letter in, and wakes the owner where it sleeps.
    pub fn post(&self, letter: Letter) -> Result<(), Full> {
        let bytes = size(&letter);
        let mut inside = self.inside();
        if inside.mail.len() >= MOST_FRAMES || inside.bytes + bytes > MOST_BYTES {
            return Err(Full);
        }
        inside.bytes += bytes;
        self.put(inside, Mail::Letter(letter));
        Ok(())
    }

    /// Asks for a fence of the owner's queue.
    pub fn ask_fence(&self, asker: WorkerId) {
        self.put(self.inside(), Mail::FenceAsked(asker));
    }

    /// Says that a fence of this worker's queue, which the owner has asked for, has passed.
    pub fn pass_fence(&self, queue: WorkerId) {
        self.put(self.inside(), Mail::FencePassed(queue));
    }

    fn put(&self, mut inside: MutexGuard<'_, Inside>, mail: Mail) {
        inside.mail.push_back(mail);
        self.waiting.store(inside.mail.len(), SeqCst);
        drop(inside);
        if self.asleep.swap(false, SeqCst)
            && let Some(waker) = self.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Takes all mail out, in exchange for an empty queue.
    pub fn take(&self, into: &mut VecDeque<Mail>) {
        debug_assert!(into.is_empty(), "mail that was taken before has been read");
        let mut inside = self.inside();
        std::mem::swap(&mut inside.mail, into);
        inside.bytes = 0;
        self.waiting.store(0, SeqCst);
    }

    /// Says what wakes the owner. Once is enough; a second waker is not looked at.
    pub fn wake_with(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// The owner wants to sleep: says whether it may, and has it woken from now on.
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        let may = self.is_empty();
        if !may {
            self.wake_up();
        }
        may
    }

    /// The owner is awake again.
    pub fn wake_up(&self) {
        self.asleep.store(false, SeqCst);
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a letter takes of the room, which is no less than its buffer.
fn size(letter: &Letter) -> usize {
    letter.frame.packet().len().max(1500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Offload;

    fn letter(length: usize) -> Letter {
        let frame = Frame::copy_of(&vec![0; length], Offload::default());
        Letter { frame, visited: WorkerSet::NONE, queue: WorkerId(0) }
    }

    fn fill(length: usize) -> usize {
        let mailbox = Mailbox::default();
        (0..=MOST_FRAMES).take_while(|_| mailbox.post(letter(length)).is_ok()).count()
    }

    #[test]
    fn a_mailbox_is_bounded_in_frames_and_in_bytes() {
        assert_eq!(fill(100), MOST_FRAMES);
        assert_eq!(fill(65_000), MOST_BYTES / 65_000);
    }

    #[test]
    fn letters_come_out_in_order_and_leave_it_empty() {
        let mailbox = Mailbox::default();
        for length in [1, 2, 3] {
            mailbox.post(letter(length)).unwrap();
        }
        assert!(!mailbox.is_empty() && !mailbox.fall_asleep());
        assert_eq!(lengths(&mailbox), [1, 2, 3]);
        assert!(mailbox.is_empty() && mailbox.fall_asleep());
    }

    /// The lengths of letters; a note has none.
    fn lengths(mailbox: &Mailbox) -> Vec<usize> {
        let mut mail = VecDeque::new();
        mailbox.take(&mut mail);
        let length = |mail: Mail| match mail {
            Mail::Letter(letter) => letter.frame.packet().len(),
            Mail::FenceAsked(_) | Mail::FencePassed(_) => 0,
        };
        mail.into_iter().map(length).collect()
    }

    #[test]
    fn a_note_finds_room_in_a_full_mailbox_and_stays_behind_what_was_there() {
        let mailbox = Mailbox::default();
        while mailbox.post(letter(9)).is_ok() {}
        mailbox.pass_fence(WorkerId(1));
        mailbox.ask_fence(WorkerId(1));
        assert_eq!(mailbox.post(letter(9)), Err(Full));
        let lengths = lengths(&mailbox);
        assert_eq!(lengths.len(), MOST_FRAMES + 2);
        assert!(lengths[..MOST_FRAMES].iter().all(|length| *length == 9));
    }
}
