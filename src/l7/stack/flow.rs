//! A flow: one connection, as the stack and its stream share it.
//!
//! Both hold it, on one thread. The stack drives the engine; the stream copies in and out of the
//! rings and says by [`Flow::touch`] that the engine may have something to say. The engine goes
//! when the connection is over and read to its end; what the stream must know then stays.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(crate) use super::engine::Engine;
use super::slab::Key;
use super::timers::{TimerId, Timers};
use super::wire::Wire;
use crate::datapath::Instant;
use crate::packet::FiveTuple;

/// One connection.
pub(crate) struct Flow {
    /// From the client to the VIP.
    pub(crate) tuple: FiveTuple,
    key: Key,
    shared: Rc<Shared>,
    /// Whether it waits to be asked for frames.
    dirty: Cell<bool>,
    pub(crate) state: RefCell<State>,
}

/// What changes about it.
pub(crate) struct State {
    /// `None` once the connection is over and read to its end.
    pub(crate) engine: Option<Engine>,
    pub(crate) wire: Wire,
    pub(super) timer: TimerId,
    /// When the timer fires; kept here so that looking costs no cache miss.
    pub(super) armed_at: Instant,
    /// When something is due. The timer never fires later, but may fire earlier.
    pub(super) deadline: Instant,
    /// When the last byte went on, in either direction.
    pub(super) active_at: Instant,
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
        if let Some(engine) = state.engine.as_mut() {
            if !state.shut {
                state.end.get_or_insert(End::Aborted);
                engine.socket().abort();
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
#[derive(Default)]
pub(super) struct Shared {
    /// Flows that may have something to say, each at most once.
    dirty: RefCell<Vec<Key>>,
    /// The worker's, to be woken when there is one.
    worker: RefCell<Option<Waker>>,
}

impl Shared {
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
