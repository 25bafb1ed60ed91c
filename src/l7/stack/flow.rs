//! A flow: one connection, as the stack and its stream share it.
//!
//! Both hold it, on one thread. The stack drives the engine; the stream copies in and out of the
//! rings and says by [`Flow::touch`] that the engine may have something to say. The engine goes
//! when nothing has been under way for a while, and comes again with the next byte; when the
//! connection is over and read to its end it is gone, and what the stream must know stays.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smoltcp::iface::Interface;

use super::engine;
pub(crate) use super::engine::Engine;
use super::pool::Pool;
use super::segment::Offer;
use super::sequence::Sequence;
use super::settings::Listener;
use super::slab::Key;
use super::timers::{TimerId, Timers};
use super::wire::Wire;
use crate::datapath::Instant;
use crate::packet::FiveTuple;

/// One connection.
pub(crate) struct Flow {
    /// From the client to the VIP.
    pub(crate) tuple: FiveTuple,
    pub(super) key: Key,
    pub(super) shared: Rc<Shared>,
    /// Whether it waits to be asked for frames.
    dirty: Cell<bool>,
    pub(crate) state: RefCell<State>,
}

/// What changes about it.
pub(crate) struct State {
    pub(crate) seating: Seating,
    pub(crate) wire: Wire,
    pub(super) timer: TimerId,
    /// When the timer fires; kept here so that looking costs no cache miss.
    pub(super) armed_at: Instant,
    /// When something is due. The timer never fires later, but may fire earlier.
    pub(super) deadline: Instant,
    /// What the client offered in its SYN.
    pub(super) offer: Offer,
    pub(super) listener: Listener,
    /// The window field of the client's last segment.
    pub(super) client_window: u16,
    /// The number behind what the client has acknowledged.
    pub(super) client_acknowledged: Sequence,
    /// When what is under way was seen to be forgotten.
    pub(super) stalled_at: Option<Instant>,
    /// The round trip of the handshake.
    pub(super) round_trip: Duration,
    /// When the client was heard last.
    pub(super) heard_at: Instant,
    /// When the client was asked last whether it is there.
    pub(super) probed_at: Instant,
    /// When both sides had closed, if bytes are still to be read.
    pub(super) over_since: Option<Instant>,
    /// When the last byte went on, in either direction.
    pub(super) active_at: Instant,
    /// When what has come must be acknowledged at the latest, if it may wait for something to go with it.
    pub(super) acknowledge_by: Option<Instant>,
    /// The next number that the client sends: RCV.NXT.
    pub(super) expected: Sequence,
    /// When the rest must be done, once nobody reads any more.
    pub(super) orphan_until: Option<Instant>,
    pub(super) holder: Holder,
    /// How the connection ended, if it did.
    pub(crate) end: Option<End>,
    /// Whether the client has sent all it had.
    pub(super) received_all: bool,
    /// Whether the stream has been shut down for writing.
    pub(crate) shut: bool,
    /// Whether the table still finds it.
    pub(super) listed: bool,
}

/// Where a connection has its rings.
pub(crate) enum Seating {
    /// In an engine of its own.
    Seated(Engine),
    /// Nowhere: nothing is under way, and nothing has been for a while. Here the reader waits.
    Parked(Option<Waker>),
    /// Nowhere any more: the connection is over and read to its end.
    Over,
}

impl Seating {
    /// The engine, if there is one now.
    #[inline]
    pub(crate) const fn engine(&mut self) -> Option<&mut Engine> {
        match self {
            Self::Seated(engine) => Some(engine),
            Self::Parked(_) | Self::Over => None,
        }
    }
}

/// Who holds the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A stream that may read and write.
    Stream,
    /// Nobody: the stream is gone.
    Nobody,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides closed it.
    Closed,
    /// The client reset it.
    Reset,
    /// The client was silent too long.
    TimedOut,
    /// It was given up on this side.
    Aborted,
}

impl End {
    pub(crate) fn error(self) -> io::Error {
        let (kind, text) = match self {
            Self::Closed => (io::ErrorKind::BrokenPipe, "the connection is closed"),
            Self::Reset => (io::ErrorKind::ConnectionReset, "the client reset the connection"),
            Self::TimedOut => (io::ErrorKind::TimedOut, "the client fell silent"),
            Self::Aborted => (io::ErrorKind::ConnectionAborted, "the connection was aborted"),
        };
        io::Error::new(kind, text)
    }
}

impl Flow {
    pub(super) fn new(tuple: FiveTuple, key: Key, shared: Rc<Shared>, state: State) -> Self {
        Self { tuple, key, shared, dirty: Cell::new(false), state: RefCell::new(state) }
    }

    /// Says that the engine may have something to say, at the end of the worker's turn.
    #[inline]
    pub(crate) fn touch(&self) {
        if !self.dirty.replace(true) {
            self.shared.push(self.key);
        }
    }

    /// Says that the stream is gone.
    pub(crate) fn let_go(&self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.holder = Holder::Nobody;
        let shut = state.shut;
        if let Some(engine) = self.seated(state) {
            if !shut {
                engine.socket().abort();
                state.end.get_or_insert(End::Aborted);
            }
            self.touch();
        }
    }

    /// Forgets that it does.
    pub(super) fn untouch(&self) {
        self.dirty.set(false);
    }
}

impl State {
    /// Sets the deadline, and the timer with it where that would fire too late.
    pub(super) fn due<O: Copy>(&mut self, timers: &mut Timers<O>, at: Instant) {
        self.deadline = at;
        if at < self.armed_at {
            self.arm(timers, at);
        }
    }

    /// Sets the timer.
    pub(super) fn arm<O: Copy>(&mut self, timers: &mut Timers<O>, at: Instant) {
        timers.set(self.timer, at);
        self.armed_at = at;
    }

    /// What reading gives when there is nothing left to read.
    pub(crate) fn read_end(&self) -> io::Result<()> {
        match self.end {
            _ if self.received_all => Ok(()),
            None | Some(End::Closed) => Ok(()),
            Some(end) => Err(end.error()),
        }
    }

    /// What writing gives when nothing can be written any more.
    pub(crate) fn write_end(&self) -> io::Error {
        match self.end {
            Some(end) if !self.shut => end.error(),
            _ => io::Error::new(io::ErrorKind::BrokenPipe, "the stream is shut down for writing"),
        }
    }
}

/// What all flows of a stack share with it.
pub(super) struct Shared {
    pub(super) pool: RefCell<Pool>,
    pub(super) interface: RefCell<Interface>,
    /// What the time was when the stack was told last.
    pub(super) now: Cell<Instant>,
    /// Flows that may have something to say, each at most once.
    dirty: RefCell<Vec<Key>>,
    /// The worker's, to be woken when there is one.
    worker: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn new(idle_ring_bytes: usize) -> Self {
        Self {
            pool: RefCell::new(Pool::new(idle_ring_bytes)),
            interface: RefCell::new(engine::interface()),
            now: Cell::default(),
            dirty: RefCell::default(),
            worker: RefCell::default(),
        }
    }

    fn push(&self, key: Key) {
        self.dirty.borrow_mut().push(key);
        self.wake();
    }

    fn wake(&self) {
        if let Some(worker) = self.worker.borrow_mut().take() {
            worker.wake();
        }
    }

    /// Exchanges the list of flows for an empty one.
    pub(super) fn swap(&self, empty: &mut Vec<Key>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut *self.dirty.borrow_mut(), empty);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.dirty.borrow().is_empty()
    }

    /// Ready when a flow may have something to say.
    pub(super) fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_clean() {
            *self.worker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}
