//! Where a load goes, as it is written on the command line.

use std::net::SocketAddr;
use std::str::FromStr;

/// `http://A:P/path`, `https://A:P/path` or `tcp/A:P`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whom to connect to.
    pub address: SocketAddr,
    /// What is spoken.
    pub scheme: Scheme,
    /// What to ask for, where that is HTTP; else empty.
    pub path: String,
}

/// What is spoken to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Bytes that come back.
    Tcp,
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Why a target cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither http(s)://ADDRESS:PORT/PATH nor tcp/ADDRESS:PORT (an IPv6 address in brackets)")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        let (scheme, rest, port) = if let Some(rest) = text.strip_prefix("http://") {
            (Scheme::Http, rest, "80")
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Scheme::Https, rest, "443")
        } else {
            let address = text.strip_prefix("tcp/").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
            return Ok(Self { address, scheme: Scheme::Tcp, path: String::new() });
        };
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let address =
            authority.parse().or_else(|_| format!("{authority}:{port}").parse()).map_err(|_| wrong())?;
        // The path goes into a request line, so it must be one word of visible characters.
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        Ok(Self { address, scheme, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_people_write_them() {
        for (text, address, scheme, path) in [
            ("http://10.47.0.1/", "10.47.0.1:80", Scheme::Http, "/"),
            ("http://10.47.0.1:8080", "10.47.0.1:8080", Scheme::Http, "/"),
            ("http://[fd47::1]:80/bytes/7?x", "[fd47::1]:80", Scheme::Http, "/bytes/7?x"),
            ("http://[fd47::1]/", "[fd47::1]:80", Scheme::Http, "/"),
            ("https://10.47.0.1/", "10.47.0.1:443", Scheme::Https, "/"),
            ("https://[fd47::1]:8443/a", "[fd47::1]:8443", Scheme::Https, "/a"),
            ("tcp/10.47.0.1:7", "10.47.0.1:7", Scheme::Tcp, ""),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.address.to_string().as_str(), target.scheme, target.path.as_str()),
                (address, scheme, path),
                "{text}"
            );
        }
        for text in ["", "tcp/1.2.3.4", "http:///x", "http://name/", "http://1.2.3.4/a b", "udp/1.2.3.4:5"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
