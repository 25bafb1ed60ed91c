//! `[[service.route]]`: which requests go where.

use std::collections::HashMap;

use toml::Spanned;

use super::backends;
use super::check::Check;
use super::groups::{self, Groups};
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::source::{Span, quoted};
use super::values;
use crate::l7::spec::{HostPattern, RouteSpec};

/// How such a table is called.
const TABLE: &str = "[[service.route]]";

/// A route as somebody wrote it.
#[derive(Debug)]
pub struct Draft {
    at: Span,
    host: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    backends: Option<backends::Draft>,
    scheduler: Option<Spanned<String>>,
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
            path: table.text(reader, "path"),
            backends: backends::Draft::read(reader, &mut table),
            scheduler: table.text(reader, "scheduler"),
            incomplete: false,
        };
        draft.incomplete = reader.count() > before;
        table.finish(reader);
        draft
    }

    /// Checks it by itself. `name` is what its backends are called if they have no name of their own.
    fn check(&self, check: &mut Check, groups: &mut Groups, name: &str) -> Option<RouteSpec> {
        let host = match &self.host {
            Some(host) => check.value(Some(host), |text| values::host_pattern(text)),
            None => Some(HostPattern::Any),
        };
        let path = match &self.path {
            Some(path) => check.value(Some(path), |text| values::url_path(text)),
            None => Some("/".to_owned()),
        };
        let group = match &self.backends {
            Some(backends) => groups::lead(check, groups, name, backends, self.scheduler.as_ref()),
            None => {
                if !self.incomplete {
                    let help = "write `backends = [\"10.47.2.2:8080\"]`, or the name of a `[backends.NAME]`";
                    check.add(Mistake::missing(self.at.clone(), "this route leads nowhere").help(help));
                }
                None
            }
        };
        Some(RouteSpec { host: host?, path: path?, group: group? })
    }
}

/// The routes of a service, with the one that its own backends are. `service` is its name.
pub fn check(
    check: &mut Check,
    groups: &mut Groups,
    service: &str,
    drafts: &[Draft],
    own: Option<(&backends::Draft, Option<&Spanned<String>>)>,
) -> Vec<RouteSpec> {
    let mut seen: HashMap<(HostPattern, String), Span> = HashMap::new();
    let mut routes = Vec::new();
    let mut add = |check: &mut Check, route: RouteSpec, at: Span| {
        let key = (route.host.clone(), route.path.trim_end_matches('/').to_owned());
        if let Some(first) = seen.get(&key) {
            let takes =
                format!("host {} and path {}", values::written_host(&route.host), quoted(&route.path));
            let mistake = Mistake::new(at, format!("this route is never taken: another one has {takes} too"));
            check.add(mistake.also(first.clone(), "this is taken").help("leave one out, or tell them apart"));
            return;
        }
        seen.insert(key, at);
        routes.push(route);
    };
    for (number, draft) in drafts.iter().enumerate() {
        let name = format!("{service}.{}", number.saturating_add(1));
        if let Some(route) = draft.check(check, groups, &name) {
            add(check, route, draft.at.clone());
        }
    }
    if let Some((backends, scheduler)) = own
        && let Some(group) = groups::lead(check, groups, service, backends, scheduler)
    {
        add(check, RouteSpec { host: HostPattern::Any, path: "/".to_owned(), group }, backends.span());
    }
    routes
}
