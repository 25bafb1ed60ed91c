//! What routes do, in the configuration.

use std::time::Duration;

use proptest::prelude::*;

use super::{read, same};
use crate::app::config::{Look, render};
use crate::l7::spec::{
    Action, Coding, CompressSpec, Condition, MirrorSpec, PathPattern, PathRewrite, Rate, RateLimits,
    RatePeriod, Reasons, RouteSpec, StickySpec, ValuePattern,
};

const ROUTES: &str = include_str!("../../../../tests/good/routes.toml");

#[test]
fn the_example_of_routes_says_what_it_means_and_is_read_back() {
    let (source, checked) = read(ROUTES);
    assert_eq!(render(&source, &checked.mistakes, Look::PLAIN), "");
    let config = checked.config.unwrap();
    let site = &config.plan.sites[0];
    assert_eq!((site.routes.len(), site.reasons), (9, Reasons::Shown));
    let rate = |requests, per, burst| Some(Rate { requests, per, burst });
    let (second, minute) = (RatePeriod::Second, RatePeriod::Minute);
    let limits = RateLimits { source: rate(100, second, 100), total: rate(10_000, second, 20_000) };
    assert_eq!(site.limits, limits);
    let [login, beta, api, v1, moved, old, robots, closed, own] = &site.routes[..] else { panic!() };
    assert_eq!(login.path, PathPattern::Exact("/login".into()));
    assert_eq!(login.limits, RateLimits { source: rate(5, minute, 2), total: None });
    assert_eq!(
        (&login.compress, &own.compress),
        (&Some(CompressSpec::default()), &Some(CompressSpec::default()))
    );
    let exact = |text: &str| ValuePattern::Exact(text.into());
    let conditions = [
        Condition::Header("x-version".parse().unwrap(), exact("2")),
        Condition::Header("x-trace".parse().unwrap(), ValuePattern::Prefix("a".into())),
        Condition::Query("debug".into(), ValuePattern::Present),
        Condition::Cookie("beta".into(), exact("yes")),
    ];
    assert_eq!(beta.conditions, conditions);

    let forward = |route: &RouteSpec| match &route.action {
        Action::Forward(forward) => forward.clone(),
        other => panic!("{other:?}"),
    };
    let names = |route: &RouteSpec| -> Vec<_> {
        route.groups().map(|group| config.plan.groups[group.0].name.clone()).collect()
    };
    assert_eq!(names(api), ["web", "beta", "shadow"]);
    let canary = forward(api);
    assert_eq!(canary.shares.iter().map(|share| share.weight).collect::<Vec<_>>(), [9, 1]);
    assert_eq!(
        canary.sticky,
        Some(StickySpec { cookie: "shop".into(), max_age: Some(Duration::from_hours(1)) })
    );
    assert_eq!(canary.rewrite, Some(PathRewrite::Prefix("/".into())));
    assert_eq!(canary.request_headers.add[0].1, "a \"b\"");
    let mirror = canary.mirror.unwrap();
    assert_eq!(mirror, MirrorSpec { percent: 10, at_once: 8, max_body: 1024, ..mirror });
    assert_eq!(api.compress, Some(CompressSpec { codings: vec![Coding::Br, Coding::Gzip], min_bytes: 256 }));
    // What a route says takes the place of what the service says.
    assert_eq!((api.response_headers.set.len(), api.response_headers.remove.len()), (0, 1));
    assert_eq!((v1.response_headers.set.len(), &v1.compress), (1, &None));
    assert_eq!(forward(v1).rewrite, Some(PathRewrite::Whole("/gone.html".into())));

    let Action::Redirect(redirect) = &moved.action else { panic!() };
    assert_eq!(
        (redirect.status.as_u16(), redirect.port, &redirect.path),
        (308, Some(8443), &Some(PathRewrite::Prefix("/shop".into())))
    );
    let Action::Redirect(redirect) = &old.action else { panic!() };
    assert_eq!((redirect.status.as_u16(), redirect.scheme, &redirect.host), (307, None, &None));
    let (Action::Respond(robots), Action::Respond(closed)) = (&robots.action, &closed.action) else {
        panic!()
    };
    assert_eq!(
        (robots.status.as_u16(), robots.content_type.as_ref().unwrap().to_str().unwrap()),
        (200, "text/plain; charset=utf-8")
    );
    assert_eq!(
        (closed.status.as_u16(), closed.content_type.as_ref().unwrap().to_str().unwrap()),
        (503, "text/html")
    );

    let (source, again) = read(&config.to_string());
    assert_eq!(render(&source, &again.mistakes, Look::PLAIN), "");
    same(again.config, &config);
}

#[test]
fn any_piece_of_it_may_be_missing_or_doubled_without_panic() {
    let lines: Vec<&str> = ROUTES.lines().collect();
    for at in 0..lines.len() {
        for line in [Vec::new(), vec![lines[at]; 2]] {
            let text = [&lines[..at], &line[..], &lines[at + 1..]].concat().join("\n");
            super::anything(text.as_bytes());
        }
    }
}

/// A text as TOML has it, with every character that needs it escaped.
fn quoted(text: &str) -> String {
    let escape = |quoted: String, c: char| quoted + &format!("\\U{:08X}", u32::from(c));
    text.chars().fold("\"".to_owned(), escape) + "\""
}

proptest! {
    #[test]
    fn whatever_stands_in_a_route_is_printed_so_that_it_is_read_back(
        body in "(?s).{1,40}", name in "(?s).{0,10}", value in "(?s).{0,10}", field in "[!-~]([ -~]{0,9}[!-~])?",
        weights in proptest::collection::vec(0u16..=10_000, 2..4), at_once in 1usize..=10_000,
    ) {
        let shares: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(group, weight)| format!("{{ group = \"g{group}\", weight = {} }}", weight.max(&1)))
            .collect();
        let groups = (0..weights.len()).map(|group| format!("[backends.g{group}]\nmembers = [\"10.47.2.2:8{group}\"]\n"));
        let text = format!(
            "[[service]]\nname = \"x\"\nmode = \"l7\"\nlisten = [\"tcp/10.47.0.1:80\"]\n\
             [[service.route]]\npath = \"/a\"\nquery = {{ {} = {} }}\nheader = {{ X-A = {{ prefix = {} }} }}\n\
             respond = {{ body = {} }}\n\
             [[service.route]]\nbackends = [{}]\nrequest_headers = {{ set = {{ X-A = {} }} }}\n\
             mirror = {{ group = \"g0\", at_once = {at_once} }}\n{}",
            quoted(&name), quoted(&value), quoted(&value), quoted(&body), shares.join(", "), quoted(&field),
            groups.collect::<String>(),
        );
        let (source, checked) = read(&text);
        let told = render(&source, &checked.mistakes, Look::PLAIN);
        prop_assert!(checked.config.is_some(), "{}", told);
        let config = checked.config.unwrap();
        let (_, again) = read(&config.to_string());
        same(again.config, &config);
    }
}
