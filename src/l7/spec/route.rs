//! Routes as configured: which requests one takes, and what becomes of them.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderName, Method, StatusCode};

use super::{CompressSpec, FieldChanges, GroupId, RateLimits};

/// Some of the requests, and what is done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The host that it is for.
    pub host: HostPattern,
    /// The path that it is for.
    pub path: PathPattern,
    /// What else must hold of a request, all of it.
    pub conditions: Vec<Condition>,
    /// What is done.
    pub action: Action,
    /// How many requests it takes.
    pub limits: RateLimits,
    /// What is changed in the fields of answers.
    pub response_headers: FieldChanges,
    /// Whether and how answers are compressed.
    pub compress: Option<CompressSpec>,
}

impl RouteSpec {
    /// All requests, to one group.
    pub fn to(group: GroupId) -> Self {
        Self {
            host: HostPattern::Any,
            path: PathPattern::Prefix("/".to_owned()),
            conditions: Vec::new(),
            action: Action::Forward(Box::new(ForwardSpec::to(group))),
            limits: RateLimits::default(),
            response_headers: FieldChanges::default(),
            compress: None,
        }
    }

    /// All groups that it leads to.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        let forward = match &self.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        forward.into_iter().flat_map(|forward| {
            let shares = forward.shares.iter().map(|share| share.group);
            shares.chain(forward.mirror.map(|mirror| mirror.group))
        })
    }

    /// The same, to be given other numbers.
    pub fn groups_mut(&mut self) -> impl Iterator<Item = &mut GroupId> {
        let forward = match &mut self.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        forward.into_iter().flat_map(|forward| {
            let shares = forward.shares.iter_mut().map(|share| &mut share.group);
            shares.chain(forward.mirror.as_mut().map(|mirror| &mut mirror.group))
        })
    }
}

/// A host, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any, or none.
    Any,
    /// This one.
    Exact(String),
    /// All below this one: `*.example.com` is kept as `example.com`, and does not take that itself.
    Below(String),
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This one.
    Exact(String),
    /// What it begins with, by whole segments: `/v1` and `/v1/` both take `/v1` and `/v1/x`, never `/v10`. `/` takes all.
    Prefix(String),
}

/// What must hold of a request beside its host and path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Its method is one of these. GET takes HEAD too, which asks for the head of the same answer.
    Method(Vec<Method>),
    /// A line of this field.
    Header(HeaderName, ValuePattern),
    /// A parameter of the query, decoded.
    Query(String, ValuePattern),
    /// A cookie.
    Cookie(String, ValuePattern),
}

/// A value. Where a name is there more than once, one that fits will do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValuePattern {
    /// Any.
    Present,
    /// This one.
    Exact(String),
    /// What it begins with.
    Prefix(String),
}

impl ValuePattern {
    /// Whether a value fits.
    pub fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(whole) => value == whole.as_bytes(),
            Self::Prefix(start) => value.starts_with(start.as_bytes()),
        }
    }
}

/// What is done with requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They go to backends.
    Forward(Box<ForwardSpec>),
    /// The client is sent elsewhere.
    Redirect(RedirectSpec),
    /// They get this answer.
    Respond(RespondSpec),
}

/// How requests go to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardSpec {
    /// The groups that share them, at least one.
    pub shares: Vec<Share>,
    /// Whether a client stays with a backend.
    pub sticky: Option<StickySpec>,
    /// What becomes of the path.
    pub rewrite: Option<PathRewrite>,
    /// What is changed in the fields of requests.
    pub request_headers: FieldChanges,
    /// Who gets a copy.
    pub mirror: Option<MirrorSpec>,
}

impl ForwardSpec {
    /// To one group, as they are.
    pub fn to(group: GroupId) -> Self {
        Self {
            shares: vec![Share { group, weight: 1 }],
            sticky: None,
            rewrite: None,
            request_headers: FieldChanges::default(),
            mirror: None,
        }
    }
}

/// A group's share of a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The group.
    pub group: GroupId,
    /// Its part, of the sum of all. 0 where it gets none but from clients that stay with it.
    pub weight: u16,
}

/// How a client stays with a backend: by a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickySpec {
    /// The cookie's name.
    pub cookie: String,
    /// How long clients keep it; `None` for as long as they please.
    pub max_age: Option<Duration>,
}

/// What becomes of a path on its way to backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// What the route's own path stands for becomes this; `/` takes it away.
    Prefix(String),
    /// All of it becomes this. The query stays.
    Whole(String),
}

/// Where a client is sent. What is not said stays as it was asked for, the query always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectSpec {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// The scheme.
    pub scheme: Option<RedirectScheme>,
    /// The host.
    pub host: Option<String>,
    /// The port; the scheme's own is not written.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
}

/// What a client is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectScheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// An answer that needs no backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RespondSpec {
    /// 200 to 599, none that redirects.
    pub status: StatusCode,
    /// The body's type, where there is a body.
    pub content_type: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
}

/// Who gets a copy of requests. Its answers are thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorSpec {
    /// The group.
    pub group: GroupId,
    /// Of a hundred requests, 1 to 100.
    pub percent: u8,
    /// How many copies may be under way at once.
    pub at_once: usize,
    /// The largest body of which a copy is made.
    pub max_body: usize,
}
