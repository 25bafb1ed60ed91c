//! The table of routes: which one takes a request.
//!
//! Of all routes that fit a request one is taken, by this order:
//!
//! 1. the host: the exact one, then the longest wildcard, then any;
//! 2. the path: the exact one, then the longest prefix, by whole segments;
//! 3. the number of further conditions, most first;
//! 4. the order in which they are configured.
//!
//! A route that does not fit does not keep a request from a less specific one: a host that has no route for a path falls back to
//! the wildcard, and a path whose conditions do not hold to the shorter prefix. So a route for any host is a default
//! for all.
//!
//! Hosts and paths are keys of hash tables. What is looked for is bounded by what is configured: of a host with a thousand
//! labels only as many are tried as the longest wildcard has, and of a path likewise. Only routes that are for the same host and
//! path are looked at one by one.

use std::cmp::Reverse;
use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::super::path;
use super::condition::Asked;
use crate::l7::spec::{Condition, HostPattern, PathPattern, RouteSpec};

/// Where to look for routes. They are known by their numbers.
#[derive(Debug, Default)]
pub(super) struct Table {
    conditions: Box<[Box<[Condition]>]>,
    exact: HashMap<Box<str>, Paths, FixedState>,
    below: HashMap<Box<str>, Paths, FixedState>,
    any: Paths,
    /// The most labels of a wildcard.
    labels: usize,
}

impl Table {
    pub(super) fn new(routes: &[RouteSpec]) -> Self {
        let mut table = Self {
            conditions: routes.iter().map(|route| route.conditions.as_slice().into()).collect(),
            ..Self::default()
        };
        for (number, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostPattern::Any => &mut table.any,
                HostPattern::Exact(host) => table.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Below(host) => {
                    table.labels = table.labels.max(labels(host));
                    table.below.entry(host.as_str().into()).or_default()
                }
            };
            paths.add(&route.path, number);
        }
        let conditions = &table.conditions;
        let rank = |number: &usize| (Reverse(conditions.get(*number).map_or(0, |all| all.len())), *number);
        let hosts = table.exact.values_mut().chain(table.below.values_mut()).chain([&mut table.any]);
        for candidates in hosts.flat_map(|paths| paths.exact.values_mut().chain(paths.prefixes.values_mut()))
        {
            candidates.sort_by_key(rank);
        }
        table
    }

    /// The number of the route that takes a request.
    pub(super) fn find(&self, asked: &Asked<'_>) -> Option<usize> {
        let fits = |number: &usize| {
            self.conditions.get(*number).is_some_and(|all| all.iter().all(|condition| asked.fits(condition)))
        };
        let find = |paths: &Paths| paths.find(asked.path, fits);
        if let Some(found) = self.exact.get(asked.host).and_then(find) {
            return Some(found);
        }
        if !self.below.is_empty() {
            let mut left = labels(asked.host);
            let mut rest = asked.host;
            while let Some((_, parent)) = rest.split_once('.') {
                rest = parent;
                left = left.saturating_sub(1);
                if left <= self.labels
                    && let Some(found) = self.below.get(rest).and_then(find)
                {
                    return Some(found);
                }
            }
        }
        find(&self.any)
    }
}

fn labels(host: &str) -> usize {
    memchr::memchr_iter(b'.', host.as_bytes()).count() + 1
}

/// The paths of one host, each with its routes, the best one first.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Vec<usize>, FixedState>,
    /// Without the slash at the end; `/` is empty.
    prefixes: HashMap<Box<str>, Vec<usize>, FixedState>,
    /// The longest prefix.
    longest: usize,
}

impl Paths {
    fn add(&mut self, path: &PathPattern, number: usize) {
        let (PathPattern::Exact(text) | PathPattern::Prefix(text)) = path;
        // One that leads above the root takes no request: none with such a path gets this far.
        let normal = path::normal(text).unwrap_or(text.as_str().into());
        let candidates = match path {
            PathPattern::Exact(_) => self.exact.entry((*normal).into()).or_default(),
            PathPattern::Prefix(_) => {
                let prefix = normal.trim_end_matches('/');
                self.longest = self.longest.max(prefix.len());
                self.prefixes.entry(prefix.into()).or_default()
            }
        };
        candidates.push(number);
    }

    fn find(&self, path: &str, fits: impl Fn(&usize) -> bool) -> Option<usize> {
        let first = |candidates: &Vec<usize>| candidates.iter().copied().find(|number| fits(number));
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(path).and_then(first)
        {
            return Some(found);
        }
        if self.prefixes.is_empty() {
            return None;
        }
        // No prefix reaches further than the longest one, and one byte more tells whether a segment ends there.
        let end = path.len().min(self.longest + 1);
        let mut candidate = path;
        if end < path.len() {
            let cut = path.as_bytes().get(..end).unwrap_or_default();
            candidate = path.get(..memchr::memrchr(b'/', cut)?)?;
        }
        loop {
            if let Some(found) = self.prefixes.get(candidate).and_then(first) {
                return Some(found);
            }
            candidate = candidate.rsplit_once('/')?.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::l7::spec::{GroupId, ValuePattern};

    /// The same, slowly: all that match, the most specific one of them.
    fn slow(routes: &[RouteSpec], asked: &Asked<'_>) -> Option<usize> {
        let matches = |(_, route): &(usize, &RouteSpec)| {
            let by_host = match &route.host {
                HostPattern::Any => true,
                HostPattern::Exact(name) => name == asked.host,
                HostPattern::Below(name) => asked.host.ends_with(&format!(".{name}")),
            };
            let by_path = match &route.path {
                PathPattern::Exact(path) => asked.path == path,
                PathPattern::Prefix(path) => {
                    let prefix = path.trim_end_matches('/');
                    asked.path == prefix || asked.path.starts_with(&format!("{prefix}/"))
                }
            };
            let method = |methods: &[Method]| {
                methods.contains(asked.method)
                    || (asked.method == Method::HEAD && methods.contains(&Method::GET))
            };
            let text = |value: &ValuePattern, texts: Vec<&str>| {
                texts.iter().any(|text| match value {
                    ValuePattern::Present => true,
                    ValuePattern::Exact(whole) => text == whole,
                    ValuePattern::Prefix(start) => text.starts_with(start.as_str()),
                })
            };
            let named = |name: &str, pairs: &str, by: char| -> Vec<String> {
                let pairs = pairs.split(by).filter_map(|pair| pair.trim().split_once('='));
                pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect()
            };
            let line = |name: &str| asked.headers.get(name).map_or("", |line| line.to_str().unwrap());
            let holds = |condition: &Condition| match condition {
                Condition::Method(methods) => method(methods),
                Condition::Header(name, value) => {
                    asked.headers.contains_key(name) && text(value, vec![line(name.as_str())])
                }
                Condition::Query(name, value) => {
                    text(value, named(name, asked.query.unwrap_or(""), '&').iter().map(|it| &**it).collect())
                }
                Condition::Cookie(name, value) => {
                    text(value, named(name, line("cookie"), ';').iter().map(|it| &**it).collect())
                }
            };
            by_host && by_path && route.conditions.iter().all(holds)
        };
        let rank = |(number, route): &(usize, &RouteSpec)| {
            let host = match &route.host {
                HostPattern::Any => (0, 0),
                HostPattern::Below(name) => (1, name.len()),
                HostPattern::Exact(_) => (2, 0),
            };
            let path = match &route.path {
                PathPattern::Exact(_) => (1, 0),
                PathPattern::Prefix(path) => (0, path.trim_end_matches('/').len()),
            };
            (host, path, route.conditions.len(), Reverse(*number))
        };
        routes.iter().enumerate().filter(matches).max_by_key(rank).map(|(number, _)| number)
    }

    fn host() -> impl Strategy<Value = HostPattern> {
        prop_oneof![
            Just(HostPattern::Any),
            "[ab](\\.[ab]){0,2}".prop_map(HostPattern::Exact),
            "[ab](\\.[ab]){0,2}".prop_map(HostPattern::Below),
        ]
    }

    fn path() -> impl Strategy<Value = PathPattern> {
        prop_oneof![
            "(/[ab]{1,2}){0,2}/?".prop_map(|path| PathPattern::Prefix(format!("/{path}").replace("//", "/"))),
            "(/[ab]{0,2}){1,3}".prop_map(PathPattern::Exact),
        ]
    }

    fn value() -> impl Strategy<Value = ValuePattern> {
        prop_oneof![
            Just(ValuePattern::Present),
            "[xy]{0,2}".prop_map(ValuePattern::Exact),
            "[xy]{0,1}".prop_map(ValuePattern::Prefix),
        ]
    }

    fn method() -> impl Strategy<Value = Method> {
        prop_oneof![Just(Method::GET), Just(Method::HEAD), Just(Method::POST)]
    }

    fn condition() -> impl Strategy<Value = Condition> {
        prop_oneof![
            proptest::collection::vec(method(), 1..3).prop_map(Condition::Method),
            ("[mn]", value()).prop_map(|(name, value)| Condition::Header(name.parse().unwrap(), value)),
            ("[mn]", value()).prop_map(|(name, value)| Condition::Query(name, value)),
            ("[mn]", value()).prop_map(|(name, value)| Condition::Cookie(name, value)),
        ]
    }

    proptest! {
        #[test]
        fn finds_what_the_obvious_matcher_finds(
            routes in proptest::collection::vec((host(), path(), proptest::collection::vec(condition(), 0..3)), 0..14),
            asked in proptest::collection::vec((
                "[ab](\\.[ab]){0,3}", "(/[ab]{0,2}){1,4}", method(),
                "([mn]=[xy]{0,2}&){0,2}", "([mn]=[xy]{0,2}; ){0,2}", proptest::option::of("[xy]{0,2}"),
            ), 1..10),
        ) {
            let of = |(host, path, conditions)| RouteSpec { host, path, conditions, ..RouteSpec::to(GroupId(0)) };
            let specs: Vec<RouteSpec> = routes.into_iter().map(of).collect();
            let table = Table::new(&specs);
            for (host, path, method, query, cookie, field) in asked {
                let mut headers = HeaderMap::new();
                headers.insert("cookie", cookie.parse().unwrap());
                if let Some(field) = field {
                    headers.insert(HeaderName::from_static("m"), field.parse().unwrap());
                }
                let query = Some(query.as_str());
                let asked = Asked { host: &host, path: &path, query, method: &method, headers: &headers };
                prop_assert_eq!(table.find(&asked), slow(&specs, &asked), "{:?} {:?}", asked, specs);
            }
        }
    }

    fn find(table: &Table, host: &str, path: &str) -> Option<usize> {
        let headers = HeaderMap::new();
        table.find(&Asked { host, path, query: None, method: &Method::GET, headers: &headers })
    }

    fn route(host: HostPattern, path: PathPattern) -> RouteSpec {
        RouteSpec { host, path, ..RouteSpec::to(GroupId(0)) }
    }

    #[test]
    fn a_prefix_takes_whole_segments_and_an_exact_path_itself() {
        let name = || HostPattern::Exact("example.com".to_owned());
        let prefix = |path: &str| PathPattern::Prefix(path.to_owned());
        let table = Table::new(&[
            route(name(), prefix("/v1/")),
            route(name(), prefix("/v1/users")),
            route(HostPattern::Below("example.com".to_owned()), prefix("/")),
            route(HostPattern::Any, prefix("/static")),
            route(name(), PathPattern::Exact("/v1/users/7".to_owned())),
        ]);
        let cases = [
            ("example.com", "/v1", Some(0)),
            ("example.com", "/v1/", Some(0)),
            ("example.com", "/v1/x/y", Some(0)),
            ("example.com", "/v1/users/7", Some(4)),
            ("example.com", "/v1/users/7/", Some(1)),
            ("example.com", "/v1/usersx", Some(0)),
            ("example.com", "/v10", None),
            ("example.com", "/static/a", Some(3)),
            ("a.example.com", "/static/a", Some(2)),
            ("a.b.example.com", "/", Some(2)),
            ("aexample.com", "/", None),
            ("", "/static", Some(3)),
        ];
        for (host, path, number) in cases {
            assert_eq!(find(&table, host, path), number, "{host} {path}");
        }
    }

    #[test]
    fn what_a_client_asks_for_does_not_make_a_look_up_long() {
        let specs: Vec<RouteSpec> = (0..10_000)
            .map(|number| {
                let host = HostPattern::Exact(format!("host{number}.example.com"));
                route(host, PathPattern::Prefix(format!("/a{number}/b")))
            })
            .collect();
        let table = Table::new(&specs);
        assert_eq!(find(&table, "host77.example.com", "/a77/b/c"), Some(77));
        let (host, path) = ("a.".repeat(10_000), "/a".repeat(1_000_000));
        for _ in 0..1000 {
            assert_eq!(find(&table, &host, &path), None);
        }
    }
}
