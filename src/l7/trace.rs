//! What is noted about one request while it is on its way, for its line in the access log.
//!
//! A request is in several hands, some of them on other threads: its body may be read by an upstream of another worker.
//! All of them have the same [`Trace`], and note what they see.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::exchange::{Failure, Origin};
use crate::packet::Endpoint;

/// One request's notes; a clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Noted>>);

/// What has been noted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Bytes of the request's body that have come.
    pub received: u64,
    /// How often it was tried.
    pub tries: u32,
    /// Which backend it went to last.
    pub backend: Option<Endpoint>,
    /// How the upstream to that was come by.
    pub upstream: Option<Origin>,
    /// How long it waited for upstreams, in all.
    pub wait: Duration,
    /// How long opening upstreams took, in all.
    pub connect: Duration,
    /// Why it has no answer, or no whole one.
    pub failure: Option<Failure>,
    /// Why no more of its body was taken.
    pub body: Option<BodyEnd>,
}

/// Why no more is taken of a client's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// It is longer than it may be.
    TooLarge,
    /// Nothing of it came for too long.
    TimedOut,
}

impl Trace {
    /// Notes something.
    pub fn note(&self, note: impl FnOnce(&mut Noted)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes why there is no answer, or no whole one; the first reason is the cause of those that follow.
    pub fn fail(&self, failure: Failure) {
        self.note(|noted| noted.failure = noted.failure.or(Some(failure)));
    }

    /// The request has got its answer by another way, which took these notes.
    pub fn follow(&self, other: &Self) {
        let Noted { tries, backend, upstream, wait, connect, .. } = other.noted();
        self.note(|noted| {
            noted.tries = noted.tries.saturating_add(tries);
            (noted.backend, noted.upstream) = (backend, upstream);
            noted.wait = noted.wait.saturating_add(wait);
            noted.connect = noted.connect.saturating_add(connect);
        });
    }

    /// What has been noted.
    pub fn noted(&self) -> Noted {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
