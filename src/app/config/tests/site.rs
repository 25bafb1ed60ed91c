//! Layer 7 in the configuration: what it means, and that what is printed is read back.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{FULL, anything, read, same};
use crate::app::config::{Flags, Look, from_flags, render, values};
use crate::balance::SchedulerKind;
use crate::l7::spec::{
    ClientAuth, GroupId, HostPattern, PathPattern, Plan, ProxyProtocol, RouteSpec, UpstreamLimits,
    UpstreamMode, UpstreamProtocol,
};

const SITE: &str = include_str!("../../../../tests/good/site.toml");

#[test]
fn flags_of_layer_7_and_the_file_that_they_print_are_the_same() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for tls in [&[][..], &["auto"], &["site.pem,site.key", "/a b/\"x\".pem,/a b/'y'.key"]] {
        let flags = Flags {
            mode: Some("l7".into()),
            vip: words(&["tcp/10.47.0.1:443", "tcp/[fd47::1]:443"]),
            backend: words(&["10.47.2.2:8080*3"]),
            tls: words(tls),
            upstreams: Some("new".into()),
            scheduler: Some("wlc".into()),
            ..Flags::default()
        };
        let (source, checked) = from_flags(&flags);
        assert_eq!(render(&source, &checked.mistakes, Look::PLAIN), "");
        let config = checked.config.unwrap();
        let Plan { sites, groups, .. } = &config.plan;
        assert_eq!((config.services.len(), sites.len(), groups.len()), (0, 1, 1));
        assert_eq!((sites[0].listen.len(), sites[0].upstreams), (2, UpstreamMode::New));
        assert_eq!(sites[0].tls.as_ref().map_or(0, |tls| tls.certificates.len()), tls.len());
        assert_eq!(groups[0].members[0].weight.value(), 3);
        let (_, again) = read(&config.to_string());
        same(again.config, &config);
    }
}

#[test]
fn the_example_of_layer_7_says_what_it_means() {
    let (source, checked) = read(SITE);
    assert_eq!(render(&source, &checked.mistakes, Look::PLAIN), "");
    assert_eq!(checked.files.len(), 4, "two certificates, and who signs on either side");
    let config = checked.config.unwrap();
    let Plan { sites, groups, upstreams, .. } = &config.plan;
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["api", "site.2", "site.3", "plain"]);
    assert_eq!(*upstreams, Some(4096));
    let host = |name: &str| HostPattern::Below(name.to_owned());
    let of = |route: &RouteSpec| {
        let PathPattern::Prefix(path) = &route.path else { panic!("{route:?}") };
        (route.host.clone(), path.clone(), route.groups().map(|group| group.0).collect::<Vec<_>>())
    };
    let routes: Vec<_> = sites[0].routes.iter().map(of).collect();
    let exact = HostPattern::Exact("api.example.com".to_owned());
    let want = [(exact, "/v1/", 0), (host("img.example.com"), "/", 1), (HostPattern::Any, "/old", 2)];
    let want = want.map(|(host, path, group)| (host, path.to_owned(), vec![group]));
    assert_eq!(routes, want);
    assert_eq!(sites[0].tls.as_ref().unwrap().client, ClientAuth::Optional("tls/ca.pem".into()));
    assert_eq!(sites[1].routes, [RouteSpec::to(GroupId(3))]);
    assert_eq!((groups[3].scheduler, groups[3].limits), (SchedulerKind::Lc, UpstreamLimits::default()));
    assert_eq!((groups[0].protocol, groups[0].proxy_protocol), (UpstreamProtocol::Http2, ProxyProtocol::V2));
    // Layer 4 has the backends of the group as its own.
    assert_eq!((config.services.len(), &config.services[0].backends), (1, &groups[0].members));
    assert_eq!(config.services[0].scheduler, SchedulerKind::P2c);
    let printed = config.to_string();
    for key in printed.lines().filter_map(|line| Some(line.split_once(" =")?.0.trim())) {
        assert!(SITE.contains(key) || FULL.contains(key), "the examples lack `{key}`");
    }
    let (_, again) = read(&printed);
    same(again.config, &config);
}

#[test]
fn a_group_that_only_layer_4_names_leaves_the_routes_of_layer_7_where_they_were() {
    let text = "[backends.a]\nmembers = [\"10.47.2.2:80\"]\n[backends.b]\nmembers = [\"10.47.2.3:80\"]\n\
                [[service]]\nname = \"x\"\nlisten = [\"tcp/10.47.0.1:80\"]\nbackends = \"a\"\n\
                [[service]]\nname = \"b\"\nmode = \"l7\"\nlisten = [\"tcp/10.47.0.1:81\"]\nbackends = [\"10.47.2.4:80\"]\n\
                [[service.route]]\npath = \"/b\"\nbackends = \"b\"\n";
    let (source, checked) = read(text);
    assert_eq!(render(&source, &checked.mistakes, Look::PLAIN), "");
    let config = checked.config.unwrap();
    let groups = &config.plan.groups;
    let of = |route: &RouteSpec| {
        let group = &groups[route.groups().next().unwrap().0];
        (group.name.clone(), group.members[0].endpoint.to_string())
    };
    let routes: Vec<_> = config.plan.sites[0].routes.iter().map(of).collect();
    let want =
        [("b", "10.47.2.3:80"), ("b-2", "10.47.2.4:80")].map(|(name, at)| (name.to_owned(), at.to_owned()));
    assert_eq!((groups.len(), routes), (2, want.to_vec()));
    let (_, again) = read(&config.to_string());
    assert!(again.mistakes.is_empty());
    same(again.config, &config);
}

#[test]
fn only_what_a_file_says_wrong_is_wrong_until_its_files_are_looked_at() {
    let (source, checked) = read(SITE);
    assert!(checked.config.is_some());
    let checked = checked.look_at_files();
    assert!(checked.config.is_none());
    let told = render(&source, &checked.mistakes, Look::PLAIN);
    let names: Vec<_> =
        checked.mistakes.iter().filter_map(|mistake| source.text().get(mistake.at.clone())).collect();
    let want = ["tls/site.pem", "tls/site.key", "tls/api.pem", "tls/api.key", "tls/ca.pem", "tls/ca.pem"];
    assert_eq!(names, want.map(|name| format!("\"{name}\"")), "{told}");
}

#[test]
fn many_names_of_groups_that_are_not_there_are_told_of_in_good_time() {
    let groups: Vec<_> =
        (0..2_000).map(|n| format!("[backends.group{n}]\nmembers = [\"10.47.2.2:80\"]\n")).collect();
    let routes: Vec<_> =
        (0..2_000).map(|n| format!("[[service.route]]\npath = \"/{n}\"\nbackends = \"grp{n}\"\n")).collect();
    let (source, checked) = read(&format!(
        "{}[[service]]\nname = \"x\"\nmode = \"l7\"\nlisten = [\"tcp/10.47.0.1:80\"]\n{}",
        groups.concat(),
        routes.concat()
    ));
    assert!(checked.config.is_none() && checked.mistakes.len() == 2_000);
    assert!(render(&source, &checked.mistakes, Look::PLAIN).contains("more; mend these first"));
}

/// Services of layer 7 and groups that fit each other, as TOML.
fn sites() -> impl Strategy<Value = String> {
    let pool = proptest::option::of(1usize..1_000_000);
    (vec(group(), 1..4), vec(site(), 1..4), pool).prop_map(|(groups, sites, pool)| {
        let mut parts = Vec::new();
        for (number, group) in groups.into_iter().enumerate() {
            // A name with a dot must be quoted where it is printed.
            let name = if number == 1 { "\"a.b\"".to_owned() } else { format!("g{number}") };
            let members = format!("members = [\"10.47.2.{}:80\", \"[fd47:2::1]:81\"]\n", number + 1);
            parts.extend([format!("[backends.{name}]\n"), members, group]);
        }
        for (number, site) in sites.into_iter().enumerate() {
            let (v4, v6) = (format!("10.47.0.{}", number + 1), format!("[fd47::{}]", number + 1));
            let head = format!("[[service]]\nname = \"s{number}\"\nmode = \"l7\"\n");
            parts.extend([head, format!("listen = [\"tcp/{v4}:443\", \"tcp/{v6}:80\"]\n"), site]);
        }
        parts.extend(pool.map(|most| format!("[pool]\nconnections = {most}\n")));
        parts.concat()
    })
}

fn duration() -> impl Strategy<Value = String> {
    (1u64..10_000_000).prop_map(|millis| values::written(Duration::from_millis(millis)))
}

fn limits() -> impl Strategy<Value = String> {
    let numbers = (1usize..2000, 1u64..=u64::MAX, 0u32..=100);
    (numbers, duration(), duration(), any::<[bool; 9]>()).prop_map(
        |((most, uses, percent), one, other, set)| {
            let keys = [
                format!("connections = {most}"),
                format!("idle = 0, waiting = {most}"),
                format!("idle_time = \"{one}\", wait = \"{other}\""),
                format!("connect = \"{other}\", response = \"{one}\""),
                format!("age = \"{one}\", uses = {uses}"),
                format!("retry_percent = {percent}"),
                format!("requests = {most}, body = \"{one}\", total = \"{other}\""),
                format!("retry_on = [400, 599, {}]", 400 + percent),
                format!("hedge = \"{one}\""),
            ];
            let keys: Vec<_> =
                keys.into_iter().zip(set).filter(|(_, set)| *set).map(|(key, _)| key).collect();
            format!("limits = {{ {} }}\n", keys.join(", "))
        },
    )
}

/// What stands below the head of a group, but for its members.
fn group() -> impl Strategy<Value = String> {
    let tls = prop_oneof![
        Just(""),
        Just("tls = { ca = \"ca.pem\" }\n"),
        Just("tls = { ca = \"c\\\"a\\\\.pem\", name = \"Api.internal\" }\n"),
    ];
    (0usize..7, "http[12]", "none|v2", tls, limits()).prop_map(|(scheduler, protocol, proxy, tls, limits)| {
        let scheduler = SchedulerKind::ALL[scheduler];
        format!(
            "scheduler = \"{scheduler}\"\nprotocol = \"{protocol}\"\nproxy_protocol = \"{proxy}\"\n{tls}{limits}"
        )
    })
}

/// What stands below the head of a service, but for its listens.
fn site() -> impl Strategy<Value = String> {
    let tls = prop_oneof![
        Just(""),
        Just("tls = \"auto\"\n"),
        Just(
            "tls = [{ chain = \"é'.pem\", key = \"/x/k\" }, { chain = \"b\", key = \"b\" }]\n\
             client_ca = \"c\"\nclient_auth = \"required\"\n"
        ),
        Just("tls = \"auto\"\nclient_ca = \"/c\"\nclient_auth = \"optional\"\n"),
    ];
    let host = "\\*|(\\*\\.)?[a-z]{1,3}\\.[A-Z]{1,3}|10\\.0\\.0\\.[1-9]";
    let path = "(/(%20|[a-z~2]){0,2}[a-z]){0,3}/?";
    let backends = prop_oneof![Just("[\"10.47.2.8:80\"]"), Just("\"g0\"")];
    let routes = vec((host, path, backends), 0..5);
    ("pool|new", tls, duration(), routes, any::<bool>()).prop_map(|(upstreams, tls, time, routes, own)| {
        let mut parts = vec![format!("upstreams = \"{upstreams}\"\n{tls}")];
        if own || routes.is_empty() {
            parts
                .push("backends = [{ address = \"10.47.2.9:80\", weight = 7 }]\nscheduler = \"mh\"\n".into());
        }
        parts.push(format!("patience = {{ head = \"{time}\", keep_alive = \"{time}\" }}\n"));
        if own {
            parts.push("access_log = \"a 'b\"\naccess_log_format = \"json\"\n".into());
            parts.push(
                "requests = { max_head = \"2KiB\", max_fields = 9, max_body = \"0B\", max_streams = 7 }\n"
                    .into(),
            );
        }
        for (number, (host, path, backends)) in routes.into_iter().enumerate() {
            // The number tells routes apart that are the same by chance.
            let matched = format!("host = \"{host}\"\npath = \"/{number}{path}\"\n");
            parts.push(format!("[[service.route]]\n{matched}backends = {backends}\n"));
        }
        parts.concat()
    })
}

proptest! {
    #[test]
    fn what_is_printed_of_layer_7_is_read_back(text in sites()) {
        let (source, checked) = read(&text);
        let told = render(&source, &checked.mistakes, Look::PLAIN);
        prop_assert!(checked.config.is_some(), "{}", told);
        let config = checked.config.unwrap();
        let (_, again) = read(&config.to_string());
        same(again.config, &config);
    }

    #[test]
    fn a_good_file_of_layer_7_with_bytes_changed_is_read_without_panic(
        changes in vec((0..SITE.len(), 0usize..8, vec(any::<u8>(), 0..4)), 1..6)
    ) {
        let mut bytes = SITE.as_bytes().to_vec();
        for (at, gone, new) in changes {
            let start = at.min(bytes.len());
            let end = (start + gone).min(bytes.len());
            bytes.splice(start..end, new);
        }
        anything(&bytes);
    }
}
