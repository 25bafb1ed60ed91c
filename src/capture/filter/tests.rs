//! What is understood, and what is refused; tcpdump's own opinion is asked in `tests/capture_tools.rs`.

use super::Filter;

/// A UDP packet 10.1.2.3:1000 > 192.0.2.9:53.
const UDP: [u8; 28] =
    [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 2, 3, 192, 0, 2, 9, 0x03, 0xe8, 0, 53, 0, 8, 0, 0];

fn passes(filter: &str) -> bool {
    filter.parse::<Filter>().unwrap_or_else(|error| panic!("{filter}: {error}")).passes(&UDP)
}

#[test]
fn what_is_asked_is_what_is_in_the_packet() {
    for (filter, want) in [
        ("", true),
        ("udp", true),
        ("tcp", false),
        ("ip6", false),
        ("host 10.1.2.3", true),
        ("10.1.2.3", true),
        ("src 10.1.2.3", true),
        ("dst host 10.1.2.3", false),
        ("src or dst host 192.0.2.9", true),
        ("src and dst net 0.0.0.0/0", true),
        ("src and dst net 10", false),
        ("net 10", true),
        ("net 10.1.0.0 mask 255.255.0.0", true),
        ("192.0.2.0/24", true),
        ("port 53", true),
        ("udp dst port 53", true),
        ("udp src port 53", false),
        ("tcp port 53", false),
        ("portrange 50-60", true),
        ("portrange 60-50", true),
        ("port 80 or 443 or 53", true),
        ("host 10.1.2.4 or 10.1.2.3", true),
        ("proto 17", true),
        ("ip proto \\udp", true),
        ("ip6 proto 17", false),
        ("not tcp", true),
        ("!tcp&&!(port 80||port 81)", true),
        // Both bind alike, from the left: (udp or tcp) and port 80.
        ("udp or tcp and port 80", false),
        ("udp or (tcp and port 80)", true),
        ("src 10.1.2.3 and dst 192.0.2.9", true),
    ] {
        assert_eq!(passes(filter), want, "{filter}");
    }
}

#[test]
fn a_packet_that_ends_before_a_test_passes_nothing() {
    let filter: Filter = "not port 80".parse().unwrap();
    assert!(filter.passes(&UDP));
    assert!(!filter.passes(&UDP[..20]));
    assert!(!"ip".parse::<Filter>().unwrap().passes(&[]));
    assert!("".parse::<Filter>().unwrap().passes(&[]));
}

#[test]
fn what_is_not_understood_is_said_where_it_is() {
    for (filter, message) in [
        ("port", "filter: a value is missing, at its end"),
        ("port http", "filter: not a port number, at `http`"),
        ("host example.com", "filter: not an address, at `example.com`"),
        ("tcp[13] & 2 != 0", "filter: bytes of packets cannot be asked for, at `tcp[13]`"),
        ("vlan 5", "filter: this part of tcpdump's language is not known here, at `vlan`"),
        ("(udp", "filter: a `)` is missing, at its end"),
        ("udp)", "filter: a `)` that nothing opens, at `)`"),
        ("udp tcp", "filter: `and` or `or` is missing, at `tcp`"),
        ("udp and", "filter: something to ask for is missing, at its end"),
        ("net 10.1.2.3/8", "filter: bits beyond the prefix are set, at `10.1.2.3/8`"),
        ("net 10.0.0.0/33", "filter: not a prefix length, at `10.0.0.0/33`"),
        ("net 10.0.0.0 mask 255.0.255.0", "filter: a mask with holes, at `10.0.0.0`"),
        ("ip6 host 10.0.0.1", "filter: an address of the other family, at `10.0.0.1`"),
        ("icmp port 80", "filter: what has no ports, at `80`"),
        ("src and src port 80", "filter: the same end twice, at `and`"),
    ] {
        assert_eq!(filter.parse::<Filter>().unwrap_err().to_string(), message, "{filter}");
    }
    let deep = "(".repeat(10_000);
    assert!(deep.parse::<Filter>().unwrap_err().to_string().contains("too deep"));
    assert!("not ".repeat(10_000).parse::<Filter>().is_err());
    let long = vec!["port 1"; 20_000].join(" or ");
    assert!(!long.parse::<Filter>().unwrap().passes(&UDP));
}

proptest::proptest! {
    #[test]
    fn any_words_are_parsed_without_a_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "and", "or", "not", "(", ")", "tcp", "ip6", "src", "dst", "host", "net", "port", "portrange",
                "proto", "mask", "10.1", "10.0.0.1", "::1", "2001:db8::/32", "80", "80-90", "x[", "é",
            ]),
            0..9,
        ),
        packet in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..60),
    ) {
        if let Ok(filter) = words.join(" ").parse::<Filter>() {
            filter.passes(&packet);
        }
    }
}
