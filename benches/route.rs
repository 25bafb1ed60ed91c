//! The table of routes: 10,000 hosts, each with a path of its own, in one site.
//!
//! `cargo bench --bench route`. Nothing here depends on time or chance.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fourseven::l7::front::{Asked, Routes};
use fourseven::l7::spec::{Condition, GroupId, HostPattern, PathPattern, RouteSpec, ValuePattern};
use http::{HeaderMap, Method};

const HOSTS: usize = 10_000;

/// Each host has a prefix for all, a longer one, one path, and the latter under conditions; every tenth is a wildcard.
fn routes() -> Routes {
    let specs = (0..HOSTS).flat_map(|number| {
        let host = if number % 10 == 0 {
            HostPattern::Below(format!("host{number}.example.com"))
        } else {
            HostPattern::Exact(format!("host{number}.example.com"))
        };
        let route = |path: PathPattern, conditions: Vec<Condition>| RouteSpec {
            host: host.clone(),
            path,
            conditions,
            ..RouteSpec::to(GroupId(number))
        };
        let exact = || PathPattern::Exact(format!("/shop{number}/cart"));
        let yes = || ValuePattern::Exact("yes".into());
        [
            route(PathPattern::Prefix("/".into()), vec![]),
            route(PathPattern::Prefix(format!("/shop{number}/items")), vec![]),
            route(exact(), vec![]),
            route(exact(), vec![Condition::Cookie("beta".into(), yes())]),
            route(
                exact(),
                vec![Condition::Query("beta".into(), yes()), Condition::Method(vec![Method::POST])],
            ),
        ]
    });
    Routes::new(&specs.collect::<Vec<_>>())
}

fn look_up(criterion: &mut Criterion) {
    let routes = routes();
    let mut headers = HeaderMap::new();
    headers.insert("host", "host77.example.com".parse().unwrap());
    headers.insert("accept", "text/html".parse().unwrap());
    headers.insert("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)".parse().unwrap());
    headers.insert("cookie", "session=0123456789abcdef; theme=dark; beta=no".parse().unwrap());
    let asked = |number: usize, kind: usize| {
        let host = if number.is_multiple_of(10) {
            format!("www.host{number}.example.com")
        } else {
            format!("host{number}.example.com")
        };
        let path = match kind {
            0 => format!("/shop{number}/items/4711/picture.png"),
            1 => format!("/shop{number}/cart"),
            _ => "/static/css/of/a/long/path/main.css".to_owned(),
        };
        (host, path)
    };
    let mut group = criterion.benchmark_group("route");
    for (kind, name) in [(0, "prefix"), (1, "exact, conditions tried first"), (2, "any path of the host")] {
        // Other hosts each time, so that the table is not always in the cache.
        let requests: Vec<_> = (0..4096).map(|nth| asked(nth * 7919 % HOSTS, kind)).collect();
        let mut next = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (host, path) = &requests[next % requests.len()];
                next += 1;
                let query = Some("page=2&beta=no");
                let asked = Asked { host, path, query, method: &Method::GET, headers: &headers };
                assert!(black_box(routes.find(black_box(&asked))).is_some());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, look_up);
criterion_main!(benches);
