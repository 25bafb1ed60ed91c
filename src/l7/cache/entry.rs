//! What is stored: heads and whole bodies, copied out of the buffers that they came in, so that they hold no more than themselves.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Uri;
use http::header::{
    AGE, CONNECTION, DATE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{StatusCode, Version};

use super::budget::Charge;
use super::clock;
use super::directives::{OfAnswer, Scope};
use super::rules::Policy;
use super::vary::Selecting;
use crate::l7::spec::GroupId;

/// What an entry costs beside what is in it: its places in tables, and the allocator's share.
pub(super) const ENTRY: usize = 512;

/// The same of a chunk of a body.
pub(super) const CHUNK: usize = 64;

/// The same of a field: its place in the map.
const FIELD: usize = 128;

/// Where routes had sent the request. What is asked for by one name may come from several places, by routes that look at
/// more than the name; what came from one of them is not given for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub group: GroupId,
    /// What the backend was asked for.
    pub target: Box<str>,
}

impl Place {
    pub(super) fn of(group: GroupId, sent: &Uri) -> Self {
        Self { group, target: target(sent).into() }
    }

    pub(super) fn is(&self, group: GroupId, sent: &Uri) -> bool {
        self.group == group && *self.target == *target(sent)
    }
}

fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

/// A head, and what follows from it.
#[derive(Debug)]
pub(super) struct Head {
    pub place: Place,
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    pub policy: Policy,
    pub selecting: Selecting,
    /// `None` for one that is given once and not kept.
    pub charge: Option<Charge>,
}

impl Head {
    /// What keeping it costs.
    pub(super) fn cost(headers: &HeaderMap, selecting: &Selecting, place: &Place) -> usize {
        let field = |name: &HeaderName, value: Option<&HeaderValue>| {
            name.as_str().len() + value.map_or(0, HeaderValue::len) + FIELD
        };
        let fields: usize = headers.iter().map(|(name, value)| field(name, Some(value))).sum();
        let selecting: usize = selecting.iter().map(|(name, value)| field(name, value.as_ref())).sum();
        ENTRY + fields + selecting + place.target.len()
    }
}

/// A body, whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub chunks: Box<[Bytes]>,
    pub length: u64,
    pub trailers: Option<HeaderMap>,
    /// Shared with those who read it while it came.
    pub charge: Arc<Charge>,
}

/// An answer that is kept.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub head: Arc<Head>,
    pub body: Arc<Whole>,
}

/// Fields that are for one connection (RFC 9111 §3.1), and those that the cache writes itself.
const NOT_STORED: [HeaderName; 11] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    AGE,
];

/// Takes out of a head what is not stored of it: what is for one connection, what `Connection` names, and the fields that
/// `private` or `no-cache` name (RFC 9111 §5.2.2.4, §5.2.2.7).
pub(super) fn strip(headers: &mut HeaderMap, said: &OfAnswer) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in NOT_STORED.iter().chain(&named) {
        headers.remove(name);
    }
    for scope in [&said.private, &said.no_cache] {
        if let Scope::Fields(fields) = scope {
            for name in fields {
                headers.remove(name);
            }
        }
    }
}

/// A head as it is stored: no more than that, in memory of its own, and with a date (RFC 9110 §6.6.1).
pub(super) fn pack(headers: &HeaderMap, said: &OfAnswer, received: clock::Moment) -> HeaderMap {
    let mut kept = headers.clone();
    strip(&mut kept, said);
    let mut values = BytesMut::with_capacity(kept.values().map(HeaderValue::len).sum());
    for value in kept.values() {
        values.extend_from_slice(value.as_bytes());
    }
    let values = values.freeze();
    let mut at = 0;
    for value in kept.values_mut() {
        let end = at + value.len();
        if let Ok(copy) = HeaderValue::from_maybe_shared(values.slice(at..end)) {
            *value = copy;
        }
        at = end;
    }
    if !kept.contains_key(DATE) {
        kept.insert(DATE, clock::field(received));
    }
    kept
}

impl Stored {
    /// What it is charged.
    pub(super) fn bytes(&self) -> usize {
        self.head.charge.as_ref().map_or(0, Charge::bytes) + self.body.charge.bytes()
    }
}
