//! Hosts: what routes are for, and what certificates are asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;
use crate::l7::spec::HostPattern;

/// The longest name, and the longest part between two dots (RFC 1035 §2.3.4).
const NAME: usize = 253;
const LABEL: usize = 63;

const EXAMPLE: &str = "write a host such as api.example.com, *.example.com for all below it, or * for any";

/// `api.example.com`, `*.example.com`, or `*` for any; without regard to case (RFC 9110 §4.2.3).
pub fn host_pattern(text: &str) -> Result<HostPattern, Wrong> {
    if text == "*" {
        return Ok(HostPattern::Any);
    }
    let shown = quoted(text);
    let lower = text.to_ascii_lowercase();
    let Some(below) = lower.strip_prefix("*.") else {
        return host(&lower).map(HostPattern::Exact).map_err(|wrong| wrong.help_or(EXAMPLE));
    };
    if below.is_empty() {
        return Err(Wrong::new(format!("{shown} is not a host")).help(EXAMPLE));
    }
    let name = host(below).map_err(|wrong| wrong.help_or(EXAMPLE))?;
    if is_address(&name) {
        return Err(Wrong::new(format!("{shown}: there is nothing below an address"))
            .help(format!("for the address alone write {name}")));
    }
    Ok(HostPattern::Below(name))
}

/// One host: a name or an address, without a port.
pub fn host_name(text: &str) -> Result<String, Wrong> {
    let example = "write a host such as www.example.com";
    if text.contains('*') {
        return Err(
            Wrong::new(format!("{} is a pattern, and one host is needed", quoted(text))).help(example)
        );
    }
    host(&text.to_ascii_lowercase()).map_err(|wrong| wrong.help_or(example))
}

/// A name that is asked for by SNI.
pub fn server_name(text: &str) -> Result<String, Wrong> {
    let example = "write the name that is in the backend's certificate, such as api.internal";
    let lower = text.to_ascii_lowercase();
    if lower.contains('*') {
        return Err(Wrong::new(format!("{} is a pattern, and one name is asked for", quoted(text)))
            .help("a certificate for *.internal is good for api.internal: write that"));
    }
    let name = host(&lower).map_err(|wrong| wrong.help_or(example))?;
    if is_address(&name) {
        return Err(Wrong::new(format!("{} is an address, and SNI asks for names", quoted(text)))
            .help("leave `name` out: then the certificate must be for the backend's address"));
    }
    Ok(name)
}

/// As a pattern is written.
pub fn written_host(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Below(name) => format!("*.{name}"),
    }
}

fn is_address(name: &str) -> bool {
    name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok()
}

/// One host in lower case, without a port.
fn host(text: &str) -> Result<String, Wrong> {
    let shown = quoted(text);
    let wrong = |message: String, help: String| Err(Wrong::new(message).help(help));
    if text.is_empty() {
        return Err(Wrong::new("a host is missing here"));
    }
    if text.trim() != text {
        return wrong(format!("{shown} has spaces around it"), format!("write {}", text.trim()));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return wrong(format!("{shown} is a URL"), format!("leave out `{scheme}://` and any path: {rest}"));
    }
    if let Some((name, path)) = text.split_once('/') {
        let message = format!("{shown} has a path in it");
        return wrong(message, format!("write host = \"{name}\" and path = \"/{path}\""));
    }
    if let Some(inside) = text.strip_prefix('[') {
        return match inside.split_once(']') {
            Some((address, "")) => match address.parse::<Ipv6Addr>() {
                Ok(address) => Ok(format!("[{address}]")),
                Err(_) => Err(Wrong::new(format!("{shown} is not an IPv6 address in brackets"))),
            },
            Some((address, _)) => with_port(text, &format!("[{address}]")),
            None => Err(Wrong::new(format!("{shown} lacks its closing bracket"))),
        };
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        let message = format!("{shown} is an IPv6 address without brackets");
        return wrong(message, format!("write [{address}]"));
    }
    if let Some((name, _)) = text.split_once(':') {
        return with_port(text, name);
    }
    if text.contains('*') {
        let behind = text.rsplit("*.").next().filter(|rest| text.contains("*.") && !rest.contains('*'));
        let help = match behind {
            Some(rest) if !rest.is_empty() => format!("write *.{rest} for all hosts below {rest}"),
            _ => EXAMPLE.to_owned(),
        };
        return wrong(format!("{shown} has a `*` where none can be"), help);
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    name(text)
}

fn with_port(text: &str, host: &str) -> Result<String, Wrong> {
    Err(Wrong::new(format!("{} has a port", quoted(text)))
        .help(format!("a host is the same at any port: write {host}")))
}

/// A name, letter by letter.
fn name(text: &str) -> Result<String, Wrong> {
    let shown = quoted(text);
    let wrong = |message: String, help: String| Err(Wrong::new(message).help(help));
    if let Some(rest) = text.strip_suffix('.').filter(|rest| !rest.is_empty()) {
        return wrong(format!("{shown} ends with a dot"), format!("write {rest}"));
    }
    if !text.is_ascii() {
        let help = "write it as it is sent, in its ASCII form that begins with xn--".to_owned();
        return wrong(format!("{shown} has letters that no host name has on the wire"), help);
    }
    if text.len() > NAME {
        let message = format!("{shown} is longer than {NAME} bytes, the most that a name can have");
        return wrong(message, "write a shorter one".to_owned());
    }
    for label in text.split('.') {
        if label.is_empty() {
            let help = format!("write {}", text.trim_matches('.').replace("..", "."));
            return wrong(format!("{shown} has two dots with nothing between, or begins with one"), help);
        }
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !plain || label.starts_with('-') || label.ends_with('-') {
            let help = "between its dots a name has letters, digits, and `-` within".to_owned();
            return wrong(format!("{shown} is not a host name"), help);
        }
        if label.len() > LABEL {
            let message = format!("{shown} has more than {LABEL} letters between two dots");
            return wrong(message, "write a shorter one".to_owned());
        }
    }
    let digits_at_the_end =
        text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if digits_at_the_end {
        let help = "that has four numbers from 0 to 255, without leading zeros, such as 10.47.0.1".to_owned();
        return wrong(format!("{shown} is not an IPv4 address"), help);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_are_read_without_regard_to_case() {
        for (text, want) in [
            ("*", HostPattern::Any),
            ("API.example.com", HostPattern::Exact("api.example.com".into())),
            ("localhost", HostPattern::Exact("localhost".into())),
            ("10.47.0.1", HostPattern::Exact("10.47.0.1".into())),
            ("[FD47:0::1]", HostPattern::Exact("[fd47::1]".into())),
            ("*.Example.com", HostPattern::Below("example.com".into())),
            ("*.com", HostPattern::Below("com".into())),
            ("_x.a-b.example", HostPattern::Exact("_x.a-b.example".into())),
        ] {
            assert_eq!(host_pattern(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn every_way_to_write_a_host_wrong_has_its_own_advice() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = "abc.".repeat(64) + "x";
        for (text, message, help) in [
            ("", "missing", "api.example.com"),
            (" a.example ", "spaces", "write a.example"),
            ("https://a.example/x", "is a URL", "any path: a.example"),
            ("a.example/v1", "has a path", "host = \"a.example\" and path = \"/v1\""),
            ("a.example:443", "has a port", "write a.example"),
            ("*.a.example:443", "has a port", "write a.example"),
            ("[fd47::1]:443", "has a port", "write [fd47::1]"),
            ("fd47::1", "without brackets", "write [fd47::1]"),
            ("[fd47::g]", "not an IPv6 address", "api.example.com"),
            ("[fd47::1", "closing bracket", "api.example.com"),
            ("a.example.", "ends with a dot", "write a.example"),
            ("a..example", "two dots", "write a.example"),
            (".example", "begins with one", "write example"),
            ("*.", "not a host", "*.example.com"),
            ("a*.example.com", "where none can be", "write *.example.com"),
            ("api.*.example.com", "where none can be", "write *.example.com"),
            ("*.*.example.com", "where none can be", "write *.example.com"),
            ("*example.com", "where none can be", "*.example.com"),
            ("**", "where none can be", "*.example.com"),
            ("a.*", "where none can be", "*.example.com"),
            ("*.10.47.0.1", "nothing below an address", "write 10.47.0.1"),
            ("*.[fd47::1]", "nothing below an address", "write [fd47::1]"),
            ("10.47.0.256", "not an IPv4 address", "0 to 255"),
            ("bücher.example", "no host name has", "xn--"),
            ("a b.example", "not a host name", "letters"),
            ("-a.example", "not a host name", "letters"),
            (&long, "more than 63", "shorter"),
            (&longer, "longer than 253", "shorter"),
        ] {
            let wrong = host_pattern(text).unwrap_err();
            assert!(wrong.message.contains(message), "{text}: {wrong:?}");
            assert!(wrong.help.as_deref().unwrap_or_default().contains(help), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn a_name_to_ask_for_is_one_name() {
        assert_eq!(server_name("API.internal"), Ok("api.internal".to_owned()));
        for text in ["*.internal", "10.47.2.2", "[fd47::1]", "fd47::1", "", "a:1", "http://a"] {
            assert!(server_name(text).unwrap_err().help.is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_written_as_it_is_read(text in "\\PC*|(\\*\\.)?[a-zA-Z0-9.-]{0,20}|\\[[0-9a-f:]{0,9}\\]") {
            let _ = server_name(&text);
            match host_pattern(&text) {
                Ok(host) => prop_assert_eq!(host_pattern(&written_host(&host)), Ok(host)),
                Err(wrong) => prop_assert!(wrong.help.is_some()),
            }
        }
    }
}
