//! Where a load goes, as it is written on the command line.

use std::net::SocketAddr;
use std::str::FromStr;

/// `http://A:P/path` or `tcp/A:P`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whom to connect to.
    pub address: SocketAddr,
    /// What to ask for, where that is HTTP.
    pub path: Option<String>,
}

/// Why a target cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither http://ADDRESS:PORT/PATH nor tcp/ADDRESS:PORT (an IPv6 address in brackets)")]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        if let Some(rest) = text.strip_prefix("http://") {
            let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
            let address =
                authority.parse().or_else(|_| format!("{authority}:80").parse()).map_err(|_| wrong())?;
            // The path goes into a request line, so it must be one word of visible characters.
            if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong());
            }
            Ok(Self { address, path: Some(path.to_owned()) })
        } else {
            let address = text.strip_prefix("tcp/").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
            Ok(Self { address, path: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_people_write_them() {
        for (text, address, path) in [
            ("http://10.47.0.1/", "10.47.0.1:80", Some("/")),
            ("http://10.47.0.1:8080", "10.47.0.1:8080", Some("/")),
            ("http://[fd47::1]:80/bytes/7?x", "[fd47::1]:80", Some("/bytes/7?x")),
            ("http://[fd47::1]/", "[fd47::1]:80", Some("/")),
            ("tcp/10.47.0.1:7", "10.47.0.1:7", None),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.address.to_string().as_str(), target.path.as_deref()),
                (address, path),
                "{text}"
            );
        }
        for text in ["", "tcp/1.2.3.4", "http:///x", "http://name/", "http://1.2.3.4/a b", "udp/1.2.3.4:5"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
