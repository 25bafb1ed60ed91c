//! Counts of the front, written by one worker and read by anybody at any time.

use hyper::{StatusCode, Version};

use super::cut::Cut;
use super::refusal::Refusal;
use super::shape::Shaped;
use crate::datapath::Count;
use crate::l7::exchange::Failure;

/// One worker's counts. Aligned so that two workers never write to one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct FrontCounters {
    /// Connections that were taken.
    pub sessions: Count,
    /// Those that have ended. What is missing to [`FrontCounters::sessions`] is open.
    pub sessions_ended: Count,
    /// Connections that could not be secured.
    pub handshakes_failed: Count,
    /// Connections that changed their protocol.
    pub upgrades: Count,
    versions: [Count; 3],
    classes: [Count; 5],
    refusals: [Count; Refusal::COUNT],
    failures: [Count; Failure::COUNT],
    cuts: [Count; Cut::COUNT],
    shaped: [Count; Shaped::COUNT],
}

/// How clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Spoken {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

impl FrontCounters {
    /// Requests in this version, refused ones too.
    pub fn requests(&self, spoken: Spoken) -> u64 {
        self.versions[spoken as usize].value()
    }

    /// Answers of a class: 1 for 1xx, and so on.
    pub fn answers(&self, class: usize) -> u64 {
        class.checked_sub(1).and_then(|at| self.classes.get(at)).map_or(0, Count::value)
    }

    /// Requests that were refused for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refusals[refusal as usize].value()
    }

    /// Requests that no backend answered for this reason.
    pub fn failed(&self, failure: Failure) -> u64 {
        self.failures[failure as usize].value()
    }

    /// Requests of which this was made.
    pub fn shaped(&self, shaped: Shaped) -> u64 {
        self.shaped[shaped as usize].value()
    }

    /// Connections that were ended from here, or not taken, for this reason.
    pub fn cut(&self, cut: Cut) -> u64 {
        self.cuts[cut as usize].value()
    }

    /// Sessions that are open.
    pub fn open(&self) -> u64 {
        // The ended ones are read first, so that the difference is never below zero.
        let ended = self.sessions_ended.value();
        self.sessions.value().saturating_sub(ended)
    }

    pub(super) fn count_request(&self, version: Version) {
        let spoken = match version {
            Version::HTTP_2 => Spoken::Http2,
            Version::HTTP_10 => Spoken::Http10,
            _ => Spoken::Http11,
        };
        self.versions[spoken as usize].add(1);
    }

    pub(super) fn count_answer(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(count) = class.checked_sub(1).and_then(|at| self.classes.get(at)) {
            count.add(1);
        }
    }

    pub(super) fn count_refusal(&self, refusal: Refusal) {
        self.refusals[refusal as usize].add(1);
    }

    pub(super) fn count_shaped(&self, shaped: Shaped) {
        self.shaped[shaped as usize].add(1);
    }

    pub(super) fn count_cut(&self, cut: Cut) {
        self.cuts[cut as usize].add(1);
    }

    pub(super) fn count_failure(&self, failure: Failure) {
        self.failures[failure as usize].add(1);
    }
}
