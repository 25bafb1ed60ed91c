//! What is made of messages on their way, as configured: fields, compression, rates.

use http::HeaderName;
use http::header::HeaderValue;

use crate::l7::words::words;

/// What is changed in a head: first taken away, then set, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// Fields that are taken away.
    pub remove: Vec<HeaderName>,
    /// Fields that have this value from then on, whatever they had.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Lines that come behind those that are there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl FieldChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// How answers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressSpec {
    /// By what, the most welcome one first; at least one. Of those that a client likes equally the first is taken.
    pub codings: Vec<Coding>,
    /// The smallest body that is worth it, where its length is known.
    pub min_bytes: u64,
}

impl Default for CompressSpec {
    fn default() -> Self {
        Self { codings: vec![Coding::Zstd, Coding::Br, Coding::Gzip], min_bytes: 1024 }
    }
}

words! {
    /// How a body is compressed: a content coding (RFC 9110 §8.4.1).
    Coding {
        /// RFC 1952.
        Gzip = "gzip",
        /// RFC 7932.
        Br = "br",
        /// RFC 8878.
        Zstd = "zstd",
    }
}

/// How many requests are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of each source: an IPv4 address, or the first 64 bits of an IPv6 one.
    pub source: Option<Rate>,
    /// Of all of them together.
    pub total: Option<Rate>,
}

/// A rate, and what may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests, at least one.
    pub requests: u32,
    /// In this time.
    pub per: RatePeriod,
    /// How many may come at once after a pause, at least one.
    pub burst: u32,
}

/// What a rate is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RatePeriod {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl RatePeriod {
    /// How long it is.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}
