//! Endpoints, listens and prefixes. Most of this file finds out what somebody meant who did
//! not write one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;
use crate::balance::Listen;
use crate::packet::{Endpoint, Protocol};

/// `tcp/10.47.0.1:80` or `udp/[fd47::1]:53`.
pub fn listen(text: &str) -> Result<Listen, Wrong> {
    let (protocol, rest) = match text.split_once('/') {
        Some((word, rest)) => (word.trim_end_matches(':'), rest.trim_start_matches('/')),
        None => match text.split_once(':') {
            Some((word @ ("tcp" | "udp"), rest)) => (word, rest),
            _ => ("", text),
        },
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "" => {
            endpoint(rest)?;
            return Err(Wrong::new(format!("{} does not say which protocol", quoted(text)))
                .help(format!("write tcp/{rest} or udp/{rest}")));
        }
        "http" | "https" => {
            return Err(Wrong::new(format!("{} is not a protocol of layer 4", quoted(protocol)))
                .help(format!("HTTP runs over TCP: write tcp/{}", rest.trim_end_matches('/'))));
        }
        _ => {
            return Err(Wrong::new(format!("{} is not balanced: only tcp and udp are", quoted(protocol)))
                .help("write tcp/ADDRESS:PORT or udp/ADDRESS:PORT"));
        }
    };
    let endpoint = endpoint(rest)?;
    // A backend may have such an address, on a link of the host's; but what comes to the balancer has been routed.
    if let IpAddr::V4(v4) = endpoint.address.into()
        && v4.is_link_local()
    {
        return Err(Wrong::new(format!("{} is a link-local address", quoted(&v4.to_string())))
            .help("it is not routed; use a public or private one"));
    }
    let listen = Listen { protocol, endpoint };
    if text.strip_prefix(&format!("{protocol}/")) == Some(rest) {
        return Ok(listen);
    }
    Err(Wrong::new(format!("{} is not how a protocol is written", quoted(text)))
        .help(format!("write {listen}")))
}

/// `10.47.2.2:8080` or `[fd47:2::2]:8080`.
pub fn endpoint(text: &str) -> Result<Endpoint, Wrong> {
    let socket = text.parse::<SocketAddr>().map_err(|_| not_an_endpoint(text))?;
    if let SocketAddr::V6(v6) = socket
        && v6.scope_id() != 0
    {
        return Err(Wrong::new(format!("{} names a zone", quoted(text)))
            .help("a link-local address cannot be balanced; use a global or unique local one"));
    }
    if socket.port() == 0 {
        return Err(Wrong::new(format!("{} has port 0, which nobody can have", quoted(text)))
            .help("a port is a number from 1 to 65535"));
    }
    host(socket.ip())?;
    Ok(socket.into())
}

/// `10.47.3.0/24` or `fd47:3::/64`.
pub fn prefix(text: &str) -> Result<IpNet, Wrong> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => Wrong::new(format!("{} has no prefix length", quoted(text)))
                .help(format!("for this one address write {}", IpNet::from(address))),
            Err(_) => not_a_prefix(text),
        });
    };
    if net != net.trunc() {
        return Err(Wrong::new(format!("{} has bits set behind its prefix", quoted(text))).help(format!(
            "for the whole prefix write {}, for the one address {}",
            net.trunc(),
            IpNet::from(net.addr())
        )));
    }
    let shortest = if net.addr().is_ipv4() { 8 } else { 16 };
    if net.prefix_len() < shortest {
        return Err(Wrong::new(format!("{} is too large", quoted(text))).help(format!(
            "all of it is routed to the balancer: a prefix of /{shortest} or longer is taken"
        )));
    }
    // What cannot be the address of one host spoils the prefix from its first address on.
    let first = if net.prefix_len() == net.max_prefix_len() { net.addr() } else { after(net.network()) };
    host(first)?;
    Ok(net)
}

/// `10.47.1.7` or `10.47.1.0/24`: addresses of clients.
pub fn clients(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net = text.parse::<IpNet>().map_err(|_| {
        Wrong::new(format!("{} is no address and no prefix", quoted(text)))
            .help("write an address or a prefix, such as 10.47.1.7 or 10.47.1.0/24")
    })?;
    if net != net.trunc() {
        return Err(Wrong::new(format!("{} has bits set behind its prefix", quoted(text))).help(format!(
            "write {} or {}",
            net.trunc(),
            net.addr()
        )));
    }
    Ok(net)
}

/// The address that follows; the network address itself may be all zeros.
fn after(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().saturating_add(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().saturating_add(1)).into(),
    }
}

/// Refuses addresses that no packet of another host can carry.
fn host(address: IpAddr) -> Result<(), Wrong> {
    let wrong = |kind: &str, help: String| {
        let message = format!("{} is {kind}", quoted(&address.to_string()));
        Err(Wrong::new(message).help(help))
    };
    if let IpAddr::V6(v6) = address
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        return wrong("an IPv4 address written as IPv6", format!("write it as IPv4: {v4}"));
    }
    let one = "write an address that one host has";
    if address.is_unspecified() {
        return wrong(
            "the unspecified address",
            "there is no wildcard: write each address that is meant".to_owned(),
        );
    }
    if address.is_loopback() {
        return wrong("a loopback address", format!("the kernel takes no such packet from a device; {one}"));
    }
    if address.is_multicast() {
        return wrong("a multicast address", one.to_owned());
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => wrong("the broadcast address", one.to_owned()),
        IpAddr::V4(v4) if v4.octets().first() == Some(&0) => {
            wrong("an address of \"this network\"", one.to_owned())
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            wrong("a link-local address", "it is not routed; use a global or unique local one".to_owned())
        }
        IpAddr::V4(v4) if v4.octets().first() >= Some(&240) => wrong("a reserved address", one.to_owned()),
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

/// What is wrong with a text that is not an endpoint.
fn not_an_endpoint(text: &str) -> Wrong {
    let shown = quoted(text);
    let example = "write ADDRESS:PORT, such as 10.47.2.2:8080 or [fd47:2::2]:8080";
    if text.trim() != text {
        return Wrong::new(format!("{shown} has spaces around it")).help(format!("write {}", text.trim()));
    }
    if text.is_empty() {
        return Wrong::new("an address and a port are missing here").help(example);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split('/').next().unwrap_or_default();
        return Wrong::new(format!("{shown} is a URL"))
            .help(format!("leave out `{scheme}://` and any path: {rest}"));
    }
    if let Some((word @ ("tcp" | "udp"), rest)) = text.split_once('/') {
        return Wrong::new(format!("{shown} names a protocol")).help(format!(
            "a backend has the protocol of its service: leave out `{word}/` and write {rest}"
        ));
    }
    if text.parse::<IpNet>().is_ok()
        || text.rsplit_once(':').is_some_and(|(net, _)| net.parse::<IpNet>().is_ok())
    {
        return Wrong::new(format!("{shown} is a prefix, and a single address is needed")).help(example);
    }
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        let message = format!("{shown} is an IPv6 address without brackets and port");
        return match text
            .rsplit_once(':')
            .map(|(start, port)| (start.parse::<Ipv6Addr>(), port.parse::<u16>()))
        {
            Some((Ok(start), Ok(port))) => Wrong::new(format!(
                "{shown} could be an address, or an address and a port"
            ))
            .help(format!("write [{start}]:{port} if {port} is the port, and [{v6}]:PORT if it is not")),
            _ => Wrong::new(message).help(format!("write [{v6}]:PORT")),
        };
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        let full = SocketAddr::new(address, 8080);
        return Wrong::new(format!("{shown} has no port"))
            .help(format!("write the port behind it, such as {full}"));
    }
    let Some((address, port)) = text.rsplit_once(':') else { return not_an_address(text, "no port") };
    if address.parse::<Ipv6Addr>().is_ok() {
        return Wrong::new(format!("{shown} has an IPv6 address without brackets"))
            .help(format!("write [{address}]:{port}"));
    }
    let inside = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if inside.is_some_and(|inside| inside.parse::<Ipv4Addr>().is_ok()) {
        let inside = inside.unwrap_or_default();
        return Wrong::new(format!("{shown} has brackets around an IPv4 address"))
            .help(format!("write {inside}:{port}"));
    }
    if inside.unwrap_or(address).parse::<IpAddr>().is_ok() {
        let message = if port.is_empty() {
            format!("{shown} has no port")
        } else {
            format!("{} in {shown} is not a port", quoted(port))
        };
        return Wrong::new(message).help("a port is a number from 1 to 65535");
    }
    not_an_address(address, "not an address")
}

/// What is wrong with a text that should be an address.
fn not_an_address(text: &str, otherwise: &str) -> Wrong {
    let shown = quoted(text);
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.') && text.contains('.') {
        return Wrong::new(format!("{shown} is not an IPv4 address"))
            .help("that has four numbers from 0 to 255, without leading zeros, such as 10.47.2.2");
    }
    if text.contains('%') {
        return Wrong::new(format!("{shown} names a zone"))
            .help("a link-local address cannot be balanced; use a global or unique local one");
    }
    if text.starts_with('[') || text.contains(':') {
        return Wrong::new(format!("{shown} is not an IPv6 address"))
            .help("that has up to eight groups of hex digits, in brackets, such as [fd47:2::2]:8080");
    }
    if text.chars().any(char::is_alphabetic) && text.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c))
    {
        return Wrong::new(format!("{shown} is a name, and names are not looked up"))
            .help(format!("write its address; `getent hosts {text}` shows it"));
    }
    Wrong::new(format!("{shown} is {otherwise}"))
        .help("write ADDRESS:PORT, such as 10.47.2.2:8080 or [fd47:2::2]:8080")
}

/// What is wrong with a text that is not a prefix.
fn not_a_prefix(text: &str) -> Wrong {
    let shown = quoted(text);
    if let Some((address, length)) = text.split_once('/')
        && let Ok(address) = address.parse::<IpAddr>()
    {
        let most = if address.is_ipv4() { 32 } else { 128 };
        return Wrong::new(format!("{} in {shown} is not a prefix length", quoted(length)))
            .help(format!("behind this address it is a number from 0 to {most}"));
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Wrong::new(format!("{shown} has a port, and a prefix has none")).help(format!(
            "write {}; the ports are `local_ports` under `[flows]`",
            IpNet::from(socket.ip())
        ));
    }
    Wrong::new(format!("{shown} is not a prefix"))
        .help("write ADDRESS/LENGTH, such as 10.47.3.0/24 or fd47:3::/64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_an_endpoint_wrong_has_its_own_advice() {
        for (text, message, help) in [
            ("10.47.2.2", "has no port", "10.47.2.2:8080"),
            ("fd47::1", "without brackets", "[fd47::1]:PORT"),
            ("fd47::1:80", "could be an address", "write [fd47::1]:80 if 80 is the port"),
            ("1:2:3:4:5:6:7:8:80", "without brackets", "[1:2:3:4:5:6:7:8]:80"),
            ("[fd47::1]", "has no port", "[fd47::1]:8080"),
            ("[fd47::1]:", "has no port", "1 to 65535"),
            ("[fd47::g]:80", "not an IPv6 address", "hex digits"),
            ("[10.0.0.1]:80", "brackets around an IPv4", "write 10.0.0.1:80"),
            ("[fe80::1%2]:80", "names a zone", "global"),
            ("[fe80::1]:80", "link-local", "global"),
            ("[::ffff:10.0.0.1]:80", "an IPv4 address written as IPv6", "10.0.0.1"),
            ("10.47.2.2:", "has no port", "1 to 65535"),
            ("10.47.2.2:http", "`http`", "1 to 65535"),
            ("10.47.2.2:65536", "`65536`", "1 to 65535"),
            ("10.47.2.2:0", "has port 0", "1 to 65535"),
            ("10.47.2.256:80", "not an IPv4 address", "0 to 255"),
            ("10.47.02.2:80", "not an IPv4 address", "leading zeros"),
            ("10.47.2:80", "not an IPv4 address", "four numbers"),
            ("web.example.com:80", "is a name", "getent hosts web.example.com"),
            ("localhost", "is a name", "getent hosts localhost"),
            ("http://10.47.2.2:80/x", "is a URL", "10.47.2.2:80"),
            ("tcp/10.47.2.2:80", "names a protocol", "write 10.47.2.2:80"),
            ("10.47.2.0/24", "is a prefix", "ADDRESS:PORT"),
            ("10.47.2.0/24:80", "is a prefix", "ADDRESS:PORT"),
            ("0.0.0.0:80", "unspecified", "wildcard"),
            ("127.0.0.1:80", "loopback", "one host"),
            ("224.0.0.1:80", "multicast", "one host"),
            ("255.255.255.255:80", "broadcast", "one host"),
            ("0.1.2.3:80", "this network", "one host"),
            ("240.0.0.1:80", "reserved", "one host"),
            (" 10.47.2.2:80", "spaces", "write 10.47.2.2:80"),
            ("", "missing", "ADDRESS:PORT"),
            (":80", "not an address", "ADDRESS:PORT"),
            ("*:80", "not an address", "ADDRESS:PORT"),
        ] {
            let wrong = endpoint(text).unwrap_err();
            assert!(wrong.message.contains(message), "{text}: {wrong:?}");
            assert!(wrong.help.as_deref().unwrap_or_default().contains(help), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn every_way_to_write_a_listen_wrong_has_its_own_advice() {
        for (text, message, help) in [
            ("10.47.0.1:80", "which protocol", "tcp/10.47.0.1:80 or udp/10.47.0.1:80"),
            ("10.47.0.1", "has no port", "10.47.0.1:8080"),
            ("TCP/10.47.0.1:80", "how a protocol is written", "write tcp/10.47.0.1:80"),
            ("tcp:10.47.0.1:80", "how a protocol is written", "write tcp/10.47.0.1:80"),
            ("tcp://10.47.0.1:80", "how a protocol is written", "write tcp/10.47.0.1:80"),
            ("http://10.47.0.1:80/", "not a protocol of layer 4", "write tcp/10.47.0.1:80"),
            ("sctp/10.47.0.1:80", "only tcp and udp", "tcp/ADDRESS:PORT"),
            ("tcp/", "missing", "ADDRESS:PORT"),
            ("tcp/169.254.1.1:80", "link-local", "not routed"),
            ("udp/240.0.0.1:53", "reserved", "one host"),
        ] {
            let wrong = listen(text).unwrap_err();
            assert!(wrong.message.contains(message), "{text}: {wrong:?}");
            assert!(wrong.help.as_deref().unwrap_or_default().contains(help), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn every_way_to_write_a_prefix_wrong_has_its_own_advice() {
        for (text, message, help) in [
            ("10.47.3.0", "no prefix length", "10.47.3.0/32"),
            ("fd47:3::", "no prefix length", "fd47:3::/128"),
            ("10.47.3.7/24", "bits set", "write 10.47.3.0/24, for the one address 10.47.3.7/32"),
            ("10.47.3.0/33", "`33`", "0 to 32"),
            ("fd47:3::/x", "`x`", "0 to 128"),
            ("0.0.0.0/0", "too large", "/8"),
            ("127.0.0.0/8", "loopback", "one host"),
            ("::1/128", "loopback", "one host"),
            ("fe80::/64", "link-local", "global"),
            ("240.0.0.0/8", "reserved", "one host"),
            ("10.47.3.1:80", "has a port", "10.47.3.1/32"),
            ("here", "not a prefix", "ADDRESS/LENGTH"),
        ] {
            let wrong = prefix(text).unwrap_err();
            assert!(wrong.message.contains(message), "{text}: {wrong:?}");
            assert!(wrong.help.as_deref().unwrap_or_default().contains(help), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for text in ["10.47.2.2:8080", "[fd47:2::2]:8080", "169.254.1.1:1"] {
            assert_eq!(endpoint(text).unwrap().to_string(), text);
        }
        for text in ["tcp/10.47.0.1:80", "udp/[fd47::1]:53"] {
            assert_eq!(listen(text).unwrap().to_string(), text);
        }
        for text in ["10.47.3.0/24", "10.0.0.0/8", "fd47:3::/64", "10.47.3.7/32"] {
            assert_eq!(prefix(text).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|[0-9a-f.:/\\[\\]%]*") {
            let _ = (endpoint(&text), listen(&text), prefix(&text));
        }

        #[test]
        fn advice_that_is_an_endpoint_is_a_right_one(text in "[0-9]{1,3}(\\.[0-9]{1,3}){3}(:[0-9]{1,5})?") {
            if let Err(Wrong { help: Some(help), .. }) = endpoint(&text)
                && let Some(advice) = help.strip_prefix("write the port behind it, such as ")
            {
                // The port is right, though the address may be another kind of wrong.
                prop_assert!(advice.parse::<SocketAddr>().is_ok());
            }
        }
    }
}
