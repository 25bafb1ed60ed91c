//! `[[service.route]]`: which requests go where.

use std::collections::HashMap;

use toml::Spanned;

use super::answers::{RedirectDraft, RespondDraft};
use super::check::Check;
use super::groups::{self, Groups};
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::shape::{CompressDraft, Defaults, FieldsDraft, LimitDraft};
use super::source::{Span, quoted};
use super::{backends, conditions, forward, values};
use crate::l7::spec::{
    Action, Condition, ForwardSpec, GroupId, HostPattern, PathPattern, RateLimits, RouteSpec,
};

/// How such a table is called.
const TABLE: &str = "[[service.route]]";

/// A route as somebody wrote it.
#[derive(Debug)]
pub struct Draft {
    at: Span,
    host: Option<Spanned<String>>,
    conditions: conditions::Draft,
    backends: Option<backends::Draft>,
    scheduler: Option<Spanned<String>>,
    forward: forward::Draft,
    redirect: Option<RedirectDraft>,
    respond: Option<RespondDraft>,
    limit: LimitDraft,
    response_headers: FieldsDraft,
    compress: Option<CompressDraft>,
    incomplete: bool,
}

/// Reads all routes of a service.
pub fn read_all(reader: &mut Reader, table: &mut Table<'_>) -> Vec<Draft> {
    let tables = table.tables(reader, "route", TABLE);
    if tables.is_empty() {
        // So that advice about keys elsewhere knows those of a route.
        Draft::read(reader, Table::absent(TABLE));
    }
    tables.into_iter().map(|table| Draft::read(reader, table)).collect()
}

impl Draft {
    fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let before = reader.count();
        let mut draft = Self {
            at: table.at(),
            host: table.text(reader, "host"),
            conditions: conditions::Draft::read(reader, &mut table),
            backends: backends::Draft::read(reader, &mut table),
            scheduler: table.text(reader, "scheduler"),
            forward: forward::Draft::read(reader, &mut table),
            redirect: RedirectDraft::read(reader, &mut table),
            respond: RespondDraft::read(reader, &mut table),
            limit: LimitDraft::read(reader, &mut table),
            response_headers: FieldsDraft::read(reader, &mut table, "response_headers", "`response_headers`"),
            compress: CompressDraft::read(reader, &mut table),
            incomplete: false,
        };
        draft.incomplete = reader.count() > before;
        table.finish(reader);
        draft
    }

    /// Checks it by itself. `name` is what its backends are called if they have no name of their own.
    fn check(
        &self,
        check: &mut Check,
        groups: &mut Groups,
        name: &str,
        defaults: &Defaults,
    ) -> Option<RouteSpec> {
        let host = match &self.host {
            Some(host) => check.value(Some(host), |text| values::host_pattern(text)),
            None => Some(HostPattern::Any),
        };
        let path = self.conditions.path(check);
        let conditions = self.conditions.conditions(check);
        let action = self.action(check, groups, name, defaults);
        let fields = self.response_headers.check(check);
        let compress = match &self.compress {
            Some(compress) => compress.check(check),
            None => defaults.compress.clone(),
        };
        let limits = self.limit.check(check);
        let action = action?;
        Some(RouteSpec {
            host: host?,
            path: path?,
            conditions: conditions?,
            compress: compress.filter(|_| matches!(action, Action::Forward(_))),
            action,
            limits,
            response_headers: fields.unwrap_or_else(|| defaults.response_headers.clone()),
        })
    }

    /// What it does: one of three.
    fn action(
        &self,
        check: &mut Check,
        groups: &mut Groups,
        name: &str,
        defaults: &Defaults,
    ) -> Option<Action> {
        let written = [
            ("backends", self.backends.as_ref().map(backends::Draft::span)),
            ("redirect", self.redirect.as_ref().map(|redirect| redirect.at.clone())),
            ("respond", self.respond.as_ref().map(|respond| respond.at.clone())),
        ];
        let mut written = written.into_iter().filter_map(|(key, at)| Some((key, at?)));
        let Some((key, at)) = written.next() else {
            if !self.incomplete {
                let help = "write `backends = [\"10.47.2.2:8080\"]`, or the name of a `[backends.NAME]`";
                check.add(Mistake::missing(self.at.clone(), "this route leads nowhere").help(help));
            }
            return None;
        };
        if let Some((other, also)) = written.next() {
            let message = format!("a route has `{key}` or `{other}`, and not both");
            check.add(Mistake::new(also, message).also(at.clone(), "this is taken").help("leave one out"));
        }
        let lead = self
            .backends
            .as_ref()
            .map(|written| groups::lead(check, groups, name, written, self.scheduler.as_ref()));
        if let Some(shares) = lead {
            // What is written about a route that leads nowhere is still looked at.
            let found = shares.is_some();
            let shares = shares.unwrap_or_default();
            let spec = self.forward.check(check, groups, shares, &defaults.request_headers);
            return found.then(|| Action::Forward(Box::new(spec)));
        }
        let scheduler = self.scheduler.as_ref().map(|scheduler| ("scheduler", scheduler.span()));
        let compress = self.compress.as_ref().map(|compress| ("compress", compress.span()));
        for (idle, place) in scheduler.into_iter().chain(self.forward.written()).chain(compress) {
            let message = format!("`{idle}` is about requests that go to backends, and these do not");
            check.add(Mistake::new(place, message).also(at.clone(), "because of this").help("leave it out"));
        }
        let redirect = self.redirect.as_ref().map(|redirect| Action::Redirect(redirect.check(check)));
        redirect.or_else(|| self.respond.as_ref().map(|respond| Action::Respond(respond.check(check))))
    }
}

/// What makes two routes the same.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    host: HostPattern,
    path: PathPattern,
    conditions: Vec<Condition>,
}

impl Key {
    fn of(route: &RouteSpec) -> Self {
        let path = match &route.path {
            PathPattern::Prefix(path) => PathPattern::Prefix(path.trim_end_matches('/').to_owned()),
            exact @ PathPattern::Exact(_) => exact.clone(),
        };
        let mut conditions = route.conditions.clone();
        conditions.sort_by_cached_key(|condition| format!("{condition:?}"));
        Self { host: route.host.clone(), path, conditions }
    }
}

/// The routes of a service, with the one that its own backends are. `service` is its name.
pub fn check(
    check: &mut Check,
    groups: &mut Groups,
    service: &str,
    drafts: &[Draft],
    own: Option<(&backends::Draft, Option<&Spanned<String>>)>,
    defaults: &Defaults,
) -> Vec<RouteSpec> {
    let mut seen: HashMap<Key, Span> = HashMap::new();
    let mut routes = Vec::new();
    let mut add = |check: &mut Check, route: RouteSpec, at: Span| {
        let key = Key::of(&route);
        if let Some(first) = seen.get(&key) {
            let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = &route.path;
            let more = if route.conditions.is_empty() { "" } else { " and the same conditions" };
            let takes = format!("host {} and path {}{more}", values::written_host(&route.host), quoted(path));
            let mistake = Mistake::new(at, format!("this route is never taken: another one has {takes} too"));
            check.add(mistake.also(first.clone(), "this is taken").help("leave one out, or tell them apart"));
            return;
        }
        seen.insert(key, at);
        routes.push(route);
    };
    for (number, draft) in drafts.iter().enumerate() {
        let name = format!("{service}.{}", number.saturating_add(1));
        if let Some(route) = draft.check(check, groups, &name, defaults) {
            add(check, route, draft.at.clone());
        }
    }
    if let Some((backends, scheduler)) = own
        && let Some(shares) = groups::lead(check, groups, service, backends, scheduler)
    {
        let request_headers = defaults.request_headers.clone();
        let forward = ForwardSpec { shares, request_headers, ..ForwardSpec::to(GroupId(0)) };
        let route = RouteSpec {
            action: Action::Forward(Box::new(forward)),
            limits: RateLimits::default(),
            response_headers: defaults.response_headers.clone(),
            compress: defaults.compress.clone(),
            ..RouteSpec::to(GroupId(0))
        };
        add(check, route, backends.span());
    }
    routes
}
