//! Routes: which one takes a request, and what is done with it.
//!
//! ```text
//!   request ── limits of the site ── table ──▶ Route ── its limits ──┬─▶ Forwarding: sticky or chance ──▶ group
//!                                                                  ├─▶ redirect
//!                                                                  └─▶ respond
//! ```
//!
//! Compiled once for each site, and shared by all workers.

mod choice;
mod condition;
mod rate;
mod redirect;
mod rewrite;
mod sticky;
mod table;

use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderValue;
use http::uri::PathAndQuery;

pub(super) use choice::Chance;
pub use condition::Asked;
pub(super) use rate::{By, TooEarly};
pub(super) use redirect::From as RedirectFrom;

use choice::Choice;
use rate::{Limits, Sources};
use sticky::{Place, Sticky};
use table::Table;

use super::headers::Security;
use super::shape::{COMPRESSED, Mirror};
use super::slots::Slots;
use crate::datapath::BackendId;
use crate::l7::spec::{
    Action, CompressSpec, FieldChanges, ForwardSpec, GroupId, GroupSpec, HostPattern, PathPattern,
    RateLimits, RedirectSpec, RespondSpec, RouteSpec,
};
use crate::packet::{Address, Endpoint};

/// The routes of one site, compiled.
#[derive(Debug)]
pub struct Routes {
    table: Table,
    all: Box<[Route]>,
    limits: Limits,
    sources: Sources,
    /// How many bodies are compressed at once.
    pub(super) compressing: Slots,
}

/// One of them.
#[derive(Debug)]
pub struct Route {
    pub(super) does: Does,
    /// As it is configured: host and path, for logs.
    pub(super) label: Arc<str>,
    /// What is changed in the fields of answers.
    pub(super) response_headers: FieldChanges,
    pub(super) compress: Option<CompressSpec>,
    path: PathPattern,
    limits: Limits,
}

/// What is done with a request.
#[derive(Debug)]
pub(super) enum Does {
    Forward(Box<Forwarding>),
    Redirect(RedirectSpec),
    Respond(RespondSpec),
}

/// How requests go to backends.
#[derive(Debug)]
pub(super) struct Forwarding {
    /// What is changed in the fields of requests.
    pub request_headers: FieldChanges,
    spec: ForwardSpec,
    path: PathPattern,
    choice: Choice,
    sticky: Option<Sticky>,
    /// Who gets a copy.
    pub mirror: Option<Mirror>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub group: GroupId,
    /// The backend that its client stays with.
    pub backend: Option<BackendId>,
}

/// What became of a client that stays with a backend.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// Its backend answered.
    Kept,
    /// It had none, and has this one from now on.
    New(HeaderValue),
    /// Its backend could not answer, and it has another one from now on.
    Moved(HeaderValue),
}

/// How logs call a route: `*.example.com/v1/`, and `*/` for all.
fn label(spec: &RouteSpec) -> Arc<str> {
    let (star, host) = match &spec.host {
        HostPattern::Any => ("*", ""),
        HostPattern::Exact(host) => ("", host.as_str()),
        HostPattern::Below(host) => ("*.", host.as_str()),
    };
    let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = &spec.path;
    [star, host, path].concat().into()
}

impl Routes {
    /// Compiles routes without limits for all of them, and without groups whose backends clients could stay with.
    pub fn new(routes: &[RouteSpec]) -> Self {
        Self::with(routes, &RateLimits::default(), &[], 0)
    }

    /// Compiles them. `limits` are of all requests; `groups` are what they lead to; chance and cookies go by the seed.
    pub fn with(routes: &[RouteSpec], limits: &RateLimits, groups: &[GroupSpec], seed: u64) -> Self {
        let route = |(number, spec): (u32, &RouteSpec)| Route {
            does: match &spec.action {
                Action::Forward(forward) => {
                    Does::Forward(Box::new(Forwarding::new(forward, &spec.path, groups, seed, number)))
                }
                Action::Redirect(redirect) => Does::Redirect(redirect.clone()),
                Action::Respond(respond) => Does::Respond(respond.clone()),
            },
            label: label(spec),
            response_headers: spec.response_headers.clone(),
            compress: spec.compress.clone(),
            path: spec.path.clone(),
            limits: Limits::new(number, &spec.limits),
        };
        let by_source = limits.source.is_some() || routes.iter().any(|route| route.limits.source.is_some());
        Self {
            table: Table::new(routes),
            all: (1..).zip(routes).map(route).collect(),
            limits: Limits::new(0, limits),
            sources: if by_source { Sources::new(seed) } else { Sources::none(seed) },
            compressing: Slots::new(COMPRESSED),
        }
    }

    /// The route that takes a request.
    pub fn find(&self, asked: &Asked<'_>) -> Option<&Route> {
        self.all.get(self.table.find(asked)?)
    }

    /// Takes a request from this address, before it is known what for.
    pub(super) fn admit(&self, from: Address) -> Result<(), TooEarly> {
        self.limits.take(&self.sources, from)
    }

    /// Takes it for a route.
    pub(super) fn admit_to(&self, route: &Route, from: Address) -> Result<(), TooEarly> {
        route.limits.take(&self.sources, from)
    }
}

impl Route {
    /// What stands in `Location` for a client that is sent elsewhere.
    pub(super) fn location(&self, spec: &RedirectSpec, from: RedirectFrom<'_>) -> Option<HeaderValue> {
        redirect::location(spec, &self.path, from)
    }
}

impl Forwarding {
    fn new(spec: &ForwardSpec, path: &PathPattern, groups: &[GroupSpec], seed: u64, number: u32) -> Self {
        let sticky = spec.sticky.as_ref().map(|sticky| Sticky::new(sticky, &spec.shares, groups, seed));
        Self {
            request_headers: spec.request_headers.clone(),
            path: path.clone(),
            // Each route draws for itself.
            choice: Choice::new(&spec.shares, seed ^ (u64::from(number) << 40)),
            sticky,
            mirror: spec.mirror.map(|mirror| Mirror::new(mirror, !(seed ^ (u64::from(number) << 40)))),
            spec: spec.clone(),
        }
    }

    /// The path and query that a request goes on with. `normal` is its path in normal form.
    pub(super) fn path(&self, path: &PathAndQuery, normal: &str) -> Option<PathAndQuery> {
        match &self.spec.rewrite {
            Some(rewrite) => rewrite::rewritten(rewrite, &self.path, normal, path.query()),
            None => Some(path.clone()),
        }
    }

    /// Where a request goes. The cookie that says so, if one does, goes no further.
    pub(super) fn destination(&self, headers: &mut HeaderMap) -> Destination {
        if let Some(sticky) = &self.sticky {
            let place = sticky.place(headers);
            sticky.take_out(headers);
            if let Some(Place { group, backend }) = place {
                return Destination { group, backend: Some(backend) };
            }
        }
        Destination { group: self.choice.draw(), backend: None }
    }

    /// What a client is told of the backend that has answered; `None` where clients do not stay.
    pub(super) fn stay(&self, sent: Destination, backend: Endpoint, security: Security) -> Option<Stay> {
        let sticky = self.sticky.as_ref()?;
        let cookie = sticky.cookie(sent.group, backend, security)?;
        Some(match sent.backend {
            Some(before) if sticky.is_at(sent.group, before, backend) => Stay::Kept,
            Some(_) => Stay::Moved(cookie),
            None => Stay::New(cookie),
        })
    }
}
