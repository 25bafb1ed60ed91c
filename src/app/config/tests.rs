//! The configuration as a whole: what is printed is read back, and nothing panics.

use proptest::collection::vec;
use proptest::prelude::*;

mod routes;
mod site;

use super::*;
use crate::balance::SchedulerKind;
use crate::datapath::Nat;

const FULL: &str = include_str!("../../../tests/good/full.toml");

fn read(text: &str) -> (Source, Checked) {
    let source = Source::new("test.toml", text);
    let checked = from_toml(&source);
    (source, checked)
}

/// Holds a configuration that was read back to the one that was printed.
fn same(again: Option<Config>, config: &Config) {
    assert_eq!(again.map(|again| format!("{again:?}")), Some(format!("{config:?}")), "{config}");
}

/// Reads bytes as the program would, and holds the result to what must be true of any.
fn anything(bytes: &[u8]) {
    let (source, mistake) = Source::from_bytes("x.toml", bytes);
    let checked = from_toml(&source);
    let bad = checked.mistakes.iter().any(|mistake| mistake.severity != Severity::Warning);
    assert_eq!(checked.config.is_none(), bad, "either a configuration or a mistake");
    for mistake in mistake.iter().chain(&checked.mistakes) {
        for at in std::iter::once(&mistake.at).chain(mistake.also.iter().map(|(at, _)| at)) {
            assert!(at.start <= at.end && at.end <= source.text().len(), "{mistake:?}");
        }
    }
    for look in [Look::PLAIN, Look { unicode: true, color: true }] {
        let text = render(&source, &checked.mistakes, look);
        assert_eq!(text.is_empty(), checked.mistakes.is_empty());
        assert!(!text.contains("Failed to read"), "{text}");
    }
    if let Some(config) = checked.config {
        let (_, again) = read(&config.to_string());
        same(again.config, &config);
    }
}

#[test]
fn the_full_example_is_fine_and_says_everything() {
    let (source, checked) = read(FULL);
    assert_eq!(render(&source, &checked.mistakes, Look::PLAIN), "");
    let config = checked.config.unwrap();
    assert_eq!((config.services.len(), config.seed, config.tun.queues), (2, Some(47), 2));
    // Whatever can be printed can be written, and the example shows it.
    let printed = config.to_string();
    for key in printed.lines().filter_map(|line| Some(line.split_once('=')?.0.trim())) {
        assert!(FULL.contains(key), "the example lacks `{key}`");
    }
}

#[test]
fn the_example_in_the_message_is_fine() {
    let (_, text) = EXAMPLE.split_once("\n\n").unwrap();
    let (_, checked) = read(text);
    assert!(checked.config.is_some() && checked.mistakes.is_empty());
}

#[test]
fn what_is_left_out_is_as_documented() {
    let (_, checked) = read(include_str!("../../../tests/good/least.toml"));
    let config = checked.config.unwrap();
    assert_eq!(config.tun.local, ["10.47.3.0/24".parse().unwrap()], "only the family that is used");
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!((config.tun.queues, config.tun.mtu, config.seed), (1, 1500, None));
    assert_eq!(config.services[0].nat, Nat::Full);
}

#[test]
fn dnat_alone_has_local_addresses_too_and_does_without_where_that_is_asked_for() {
    let dnat = include_str!("../../../tests/good/least.toml").to_owned() + "nat = \"dnat\"\n";
    let without = dnat.clone() + "[tun]\nlocal = []\n";
    for (text, count) in [(dnat, 1), (without, 0)] {
        let (_, checked) = read(&text);
        assert!(checked.mistakes.is_empty(), "{text}");
        assert_eq!(checked.config.unwrap().tun.local.len(), count, "{text}");
    }
}

#[test]
fn flags_and_the_file_that_they_print_are_the_same() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let flags = Flags {
        mode: Some("l4".into()),
        vip: words(&["tcp/10.47.0.1:80", "udp/[fd47::1]:53"]),
        backend: words(&["10.47.2.2:8080*3", "[fd47:2::2]:53"]),
        nat: Some("full".into()),
        scheduler: Some("wrr".into()),
        local: words(&["10.9.0.0/16", "fd09::/64"]),
        io: Some("offload".into()),
        queues: Some("4".into()),
        tun: Some("lb0".into()),
        ..Flags::default()
    };
    let (source, checked) = from_flags(&flags);
    assert_eq!(render(&source, &checked.mistakes, Look::PLAIN), "");
    let config = checked.config.unwrap();
    assert_eq!(config.services[0].backends[0].weight.value(), 3);
    let (_, again) = read(&config.to_string());
    same(again.config, &config);
}

#[test]
fn a_file_with_a_hundred_thousand_mistakes_is_told_of_in_good_time() {
    let text = format!("[[service]]\nbackends = [{}]\n", "\"x\",\n".repeat(100_000));
    let (source, checked) = read(&text);
    assert!(checked.mistakes.len() > 100_000);
    let told = render(&source, &checked.mistakes, Look::PLAIN);
    assert!(told.contains("more; mend these first") && told.len() < 100_000, "{} bytes", told.len());
}

#[test]
fn nesting_has_an_end() {
    for open in ["[", "{a=", "a.", "[[a]]\n"] {
        anything(format!("a = {}", open.repeat(2_000)).as_bytes());
        anything(open.repeat(2_000).as_bytes());
    }
}

/// A number of services that fit each other, as TOML.
fn services() -> impl Strategy<Value = String> {
    let backends = vec((1u16..=65_535, 1u16..=65_535, any::<bool>()), 1..4);
    let service = (any::<bool>(), any::<bool>(), 0usize..7, backends);
    vec(service, 1..4).prop_map(|services| {
        let each = services.iter().enumerate().map(|(number, (dnat, v6, scheduler, backends))| {
            let host = |part: u16, of: usize| {
                if *v6 { format!("[fd47:{part}::{of:x}]") } else { format!("10.47.{part}.{of}") }
            };
            let list = backends.iter().enumerate().map(|(n, (port, weight, drain))| {
                let address = host(2, n + 1);
                format!("{{ address = \"{address}:{port}\", weight = {weight}, drain = {drain} }}")
            });
            format!(
                "[[service]]\nname = \"s{number}\"\nlisten = [\"udp/{}:53\"]\nnat = \"{}\"\nscheduler = \"{}\"\nbackends = [{}]\n",
                host(0, number + 1),
                if *dnat { "dnat" } else { "full" },
                SchedulerKind::ALL[*scheduler],
                list.collect::<Vec<_>>().join(", ")
            )
        });
        each.collect()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200)) {
        anything(&bytes);
    }

    #[test]
    fn any_text_of_tomls_own_characters_is_read_without_panic(
        text in "([a-z]{1,3}|service|tun|local|listen|route|backends|tls|mode|\"l7\"|[\\[\\]{}=.,\"'#\\n \\-0-9:/]){0,80}"
    ) {
        anything(text.as_bytes());
    }

    #[test]
    fn a_good_file_with_bytes_changed_is_read_without_panic(
        changes in vec((0..FULL.len(), 0usize..8, vec(any::<u8>(), 0..4)), 1..6)
    ) {
        let mut bytes = FULL.as_bytes().to_vec();
        for (at, gone, new) in changes {
            let start = at.min(bytes.len());
            let end = (start + gone).min(bytes.len());
            bytes.splice(start..end, new);
        }
        anything(&bytes);
    }

    #[test]
    fn what_is_printed_is_read_back(text in services(), seed in any::<u64>(), queues in 1u8..=64) {
        let (source, checked) = read(&format!("seed = {seed}\n[tun]\nqueues = {queues}\n{text}"));
        let told = render(&source, &checked.mistakes, Look::PLAIN);
        prop_assert!(checked.config.is_some(), "{}", told);
        let config = checked.config.unwrap();
        let (_, again) = read(&config.to_string());
        same(again.config, &config);
    }

    #[test]
    fn any_flags_are_read_without_panic(
        vip in vec("\\PC{0,20}|tcp/10\\.0\\.0\\.[0-9]:[0-9]{1,3}", 0..3),
        backend in vec("\\PC{0,20}|10\\.0\\.1\\.[0-9]:[0-9]{1,3}(\\*[0-9]{0,6})?", 0..3),
        queues in proptest::option::of("\\PC{0,5}|[0-9]{1,3}"),
        tun in proptest::option::of("\\PC{0,5}"),
        tls in vec("\\PC{0,5}(,\\PC{0,5})?|auto", 0..3),
        mode in proptest::option::of("l4|l7|\\PC{0,5}"),
    ) {
        let flags = Flags { mode, vip, backend, tls, queues, tun, ..Flags::default() };
        let (source, checked) = from_flags(&flags);
        let told = render(&source, &checked.mistakes, Look::PLAIN);
        prop_assert!(checked.config.is_some() || told.contains("command line:1:"), "{}", told);
    }
}
