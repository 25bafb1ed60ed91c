//! Routes: which group takes a request for a host and a path.
//!
//! The most specific host that has a route for the path wins: the exact one, then the longest wildcard, then any; with
//! one host the longest prefix, by whole segments. A host that has no route for a path does not keep it from the less
//! specific ones, so a route for any host is a default for all.
//!
//! Hosts and prefixes are keys of hash tables. What is asked for is bounded by what is configured: of a host
//! with a thousand labels only as many are tried as the longest wildcard has, and of a path likewise.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::path;
use crate::l7::spec::{GroupId, HostPattern, RouteSpec};

/// The routes of one site, compiled.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    exact: HashMap<Box<str>, Paths, FixedState>,
    below: HashMap<Box<str>, Paths, FixedState>,
    any: Paths,
    /// The most labels of a wildcard.
    labels: usize,
}

impl Routes {
    /// Compiles them. Of two routes for the same host and path the first one counts.
    pub fn new(routes: &[RouteSpec]) -> Self {
        let mut compiled = Self::default();
        for route in routes {
            let paths = match &route.host {
                HostPattern::Any => &mut compiled.any,
                HostPattern::Exact(host) => compiled.exact.entry(host.as_str().into()).or_default(),
                HostPattern::Below(host) => {
                    compiled.labels = compiled.labels.max(labels(host));
                    compiled.below.entry(host.as_str().into()).or_default()
                }
            };
            paths.add(&route.path, route.group);
        }
        compiled
    }

    /// The group for a host, in lower case and without a port, and a path in its normal form.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<GroupId> {
        if let Some(group) = self.exact.get(host).and_then(|paths| paths.find(path)) {
            return Some(group);
        }
        if !self.below.is_empty() {
            let mut left = labels(host);
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                rest = parent;
                left -= 1;
                if left <= self.labels
                    && let Some(group) = self.below.get(rest).and_then(|paths| paths.find(path))
                {
                    return Some(group);
                }
            }
        }
        self.any.find(path)
    }
}

fn labels(host: &str) -> usize {
    memchr::memchr_iter(b'.', host.as_bytes()).count() + 1
}

/// The paths of one host.
#[derive(Clone, Debug, Default)]
struct Paths {
    /// Without the slash at the end; `/` is empty.
    prefixes: HashMap<Box<str>, GroupId, FixedState>,
    /// The longest prefix.
    longest: usize,
}

impl Paths {
    fn add(&mut self, prefix: &str, group: GroupId) {
        // A prefix that leads above the root takes no request: none with such a path gets this far.
        let prefix = path::normal(prefix).unwrap_or(prefix.into());
        let prefix = prefix.trim_end_matches('/');
        self.longest = self.longest.max(prefix.len());
        self.prefixes.entry(prefix.into()).or_insert(group);
    }

    fn find(&self, path: &str) -> Option<GroupId> {
        if self.prefixes.is_empty() {
            return None;
        }
        // No prefix reaches further than the longest one, and one byte more tells whether a segment ends there.
        let end = path.len().min(self.longest + 1);
        let mut candidate = if end == path.len() { path } else { "" };
        if end < path.len() {
            let cut = path.as_bytes().get(..end).unwrap_or_default();
            let slash = memchr::memrchr(b'/', cut)?;
            candidate = path.get(..slash)?;
        }
        loop {
            if let Some(group) = self.prefixes.get(candidate) {
                return Some(*group);
            }
            candidate = candidate.rsplit_once('/')?.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, slowly: all that match, the most specific one of them.
    fn slow(routes: &[RouteSpec], host: &str, path: &str) -> Option<GroupId> {
        let matches = |route: &&RouteSpec| {
            let by_host = match &route.host {
                HostPattern::Any => true,
                HostPattern::Exact(name) => name == host,
                HostPattern::Below(name) => host.ends_with(&format!(".{name}")),
            };
            let prefix = route.path.trim_end_matches('/');
            by_host && (path == prefix || path.starts_with(&format!("{prefix}/")))
        };
        let rank = |route: &RouteSpec| {
            let host = match &route.host {
                HostPattern::Any => (0, 0),
                HostPattern::Below(name) => (1, name.len()),
                HostPattern::Exact(_) => (2, 0),
            };
            (host, route.path.trim_end_matches('/').len())
        };
        routes.iter().filter(matches).rev().max_by_key(|route| rank(route)).map(|route| route.group)
    }

    fn host() -> impl Strategy<Value = HostPattern> {
        prop_oneof![
            Just(HostPattern::Any),
            "[ab](\\.[ab]){0,3}".prop_map(HostPattern::Exact),
            "[ab](\\.[ab]){0,3}".prop_map(HostPattern::Below),
        ]
    }

    proptest! {
        #[test]
        fn finds_what_the_obvious_matcher_finds(
            hosts in proptest::collection::vec((host(), "(/[ab]{1,2}){0,3}/?"), 0..12),
            asked in proptest::collection::vec(("[ab](\\.[ab]){0,4}", "(/[ab]{0,2}){1,4}"), 1..8),
        ) {
            let specs: Vec<RouteSpec> = hosts
                .into_iter()
                .enumerate()
                .map(|(number, (host, path))| RouteSpec { host, path, group: GroupId(number) })
                .collect();
            let routes = Routes::new(&specs);
            for (host, path) in asked {
                prop_assert_eq!(routes.find(&host, &path), slow(&specs, &host, &path), "{} {}", host, path);
            }
        }
    }

    #[test]
    fn a_prefix_takes_whole_segments() {
        let route =
            |host, path: &str, group| RouteSpec { host, path: path.to_owned(), group: GroupId(group) };
        let name = || HostPattern::Exact("example.com".to_owned());
        let routes = Routes::new(&[
            route(name(), "/v1/", 1),
            route(name(), "/v1/users", 2),
            route(HostPattern::Below("example.com".to_owned()), "/", 3),
            route(HostPattern::Any, "/static", 4),
        ]);
        let cases = [
            ("example.com", "/v1", Some(1)),
            ("example.com", "/v1/", Some(1)),
            ("example.com", "/v1/x/y", Some(1)),
            ("example.com", "/v1/users/7", Some(2)),
            ("example.com", "/v1/usersx", Some(1)),
            ("example.com", "/v10", None),
            ("example.com", "/static/a", Some(4)),
            ("a.example.com", "/static/a", Some(3)),
            ("a.b.example.com", "/", Some(3)),
            ("aexample.com", "/", None),
            ("", "/static", Some(4)),
        ];
        for (host, path, group) in cases {
            assert_eq!(routes.find(host, path), group.map(GroupId), "{host} {path}");
        }
    }

    #[test]
    fn what_a_client_asks_for_does_not_make_a_look_up_long() {
        let specs: Vec<RouteSpec> = (0..10_000)
            .map(|number| RouteSpec {
                host: HostPattern::Exact(format!("host{number}.example.com")),
                path: format!("/a{number}/b"),
                group: GroupId(number),
            })
            .collect();
        let routes = Routes::new(&specs);
        assert_eq!(routes.find("host77.example.com", "/a77/b/c"), Some(GroupId(77)));
        let (host, path) = ("a.".repeat(10_000), "/a".repeat(1_000_000));
        for _ in 0..1000 {
            assert_eq!(routes.find(&host, &path), None);
        }
    }
}
