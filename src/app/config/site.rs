//! What a service of layer 7 must be.

use toml::Spanned;

use super::access_log::Said;
use super::check::{Check, Names};
use super::groups::Groups;
use super::mistake::Mistake;
use super::service::Draft;
use super::source::Span;
use super::{route, tls, values};
use crate::balance::Listen;
use crate::l7::spec::{Reasons, SiteSpec, UpstreamMode};
use crate::packet::Protocol;

/// The words for where upstreams come from.
pub const UPSTREAMS: [(&str, UpstreamMode); 2] = [("pool", UpstreamMode::Pool), ("new", UpstreamMode::New)];

/// A checked service, with the places that checks between services point at.
#[derive(Debug)]
pub struct Site {
    /// The service.
    pub spec: SiteSpec,
    /// Where its name is.
    pub name: Span,
    /// Where it listens.
    pub listen: Vec<(Listen, Span)>,
}

impl Site {
    /// Checks a service by itself.
    pub fn check(check: &mut Check, groups: &mut Groups, draft: &Draft, logs: &Said) -> Self {
        let names = check.names;
        let name = draft.checked_name(check);
        let listen = draft.listens(check);
        for (listen, at) in listen.iter().filter(|(listen, _)| listen.protocol != Protocol::Tcp) {
            let help = match names {
                Names::Keys => format!(
                    "write tcp/{}, or balance it in a `[[service]]` with `mode = \"l4\"`",
                    listen.endpoint
                ),
                Names::Flags => format!("write tcp/{}, or `--mode l4`", listen.endpoint),
            };
            let message = format!("{listen} cannot be balanced at layer 7, which ends TCP connections");
            check.add(Mistake::new(at.clone(), message).help(help));
        }
        let upstreams = check
            .value(draft.upstreams.as_ref(), |word| values::one_of(&names.of("upstreams"), word, &UPSTREAMS))
            .unwrap_or_default();
        let tls = tls::check(check, draft.tls.as_ref(), &draft.client, draft.is_whole(&["tls"]));
        if draft.backends.is_none() {
            if draft.routes.is_empty() {
                draft.no_backend(check, draft.at.clone());
            } else if let Some(scheduler) = &draft.scheduler {
                let message =
                    "this scheduler has nothing to pick from: the service has no `backends` of its own";
                let help =
                    "write it at the routes with a list, or under the `[backends.NAME]` that they name";
                check.add(Mistake::new(scheduler.span(), message).help(help));
            }
        }
        let own = draft.backends.as_ref().map(|backends| (backends, draft.scheduler.as_ref()));
        let group_name = if name.is_empty() { "service" } else { &name };
        let defaults = draft.defaults.check(check);
        let routes = route::check(check, groups, group_name, &draft.routes, own, &defaults);
        let patience = draft.patience.check(check);
        let cache = draft.cache.check(check);
        let requests = draft.requests.check(check);
        let access_log = draft.access_log.check(check).or(logs);
        draft.access_log.check_use(check, access_log.is_some());
        Self {
            name: draft.name_span(),
            spec: SiteSpec {
                name,
                listen: listen.iter().map(|(listen, _)| listen.endpoint).collect(),
                upstreams,
                tls,
                routes,
                patience,
                cache,
                requests,
                access_log,
                limits: draft.limit.check(check),
                reasons: match draft.debug.as_ref().map(Spanned::get_ref) {
                    Some(true) => Reasons::Shown,
                    Some(false) | None => Reasons::Hidden,
                },
            },
            listen,
        }
    }
}
