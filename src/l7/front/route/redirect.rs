//! Where a client is sent: all of a URL, so that no browser reads a path with two slashes as a host.

use http::header::HeaderValue;
use http::uri::{Authority, PathAndQuery};

use super::super::headers::Security;
use super::rewrite::rewritten;
use crate::l7::spec::{PathPattern, RedirectScheme, RedirectSpec};

/// What a client has asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::l7::front) struct From<'a> {
    pub security: Security,
    pub authority: &'a Authority,
    /// As it came.
    pub path: &'a PathAndQuery,
    /// The path in its normal form.
    pub normal: &'a str,
}

/// What stands in `Location`; `None` where there is no such URL.
pub(in crate::l7::front) fn location(
    spec: &RedirectSpec,
    route: &PathPattern,
    from: From<'_>,
) -> Option<HeaderValue> {
    let came_by = match from.security {
        Security::Clear => RedirectScheme::Http,
        Security::Tls => RedirectScheme::Https,
    };
    let scheme = spec.scheme.unwrap_or(came_by);
    let (word, usual) = match scheme {
        RedirectScheme::Http => ("http", 80),
        RedirectScheme::Https => ("https", 443),
    };
    let asked = from.authority.as_str();
    // The port is the last thing, and a host in brackets has colons of its own.
    let (asked_host, asked_port) = match asked.rfind(':') {
        Some(colon) if !asked.ends_with(']') => asked.split_at_checked(colon)?,
        _ => (asked, ""),
    };
    let host = spec.host.as_deref().unwrap_or(asked_host);
    // A port belongs to its scheme and its host.
    let port = match spec.port {
        Some(port) if port == usual => String::new(),
        Some(port) => format!(":{port}"),
        None if scheme == came_by && spec.host.is_none() => asked_port.to_owned(),
        None => String::new(),
    };
    let rewritten = spec.path.as_ref().map(|path| rewritten(path, route, from.normal, from.path.query()));
    let path = match &rewritten {
        Some(path) => path.as_ref()?.as_str(),
        // `OPTIONS *` is about the whole of a server.
        None if from.path.as_str() == "*" => "/",
        None => from.path.as_str(),
    };
    HeaderValue::try_from(format!("{word}://{host}{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::l7::spec::PathRewrite;

    #[test]
    fn what_is_not_said_stays_as_it_was_asked_for() {
        let plain = RedirectSpec {
            status: StatusCode::PERMANENT_REDIRECT,
            scheme: None,
            host: None,
            port: None,
            path: None,
        };
        let scheme = Some(RedirectScheme::Https);
        let to = |text: &str| Some(PathRewrite::Prefix(text.to_owned()));
        let whole = |text: &str| Some(PathRewrite::Whole(text.to_owned()));
        let host = Some("www.example.com".to_owned());
        let cases = [
            (
                RedirectSpec { scheme, ..plain.clone() },
                "a.example:8080",
                "/old/x?q",
                "https://a.example/old/x?q",
            ),
            (RedirectSpec { scheme, port: Some(8443), ..plain.clone() }, "a", "/old", "https://a:8443/old"),
            (RedirectSpec { scheme, port: Some(443), ..plain.clone() }, "a:81", "/old", "https://a/old"),
            (
                RedirectSpec { host: host.clone(), ..plain.clone() },
                "a:81",
                "/old",
                "http://www.example.com/old",
            ),
            (RedirectSpec { path: to("/new"), ..plain.clone() }, "a:81", "/%6fld/x?q", "http://a:81/new/x?q"),
            (RedirectSpec { path: whole("/new"), ..plain.clone() }, "a", "/old/x?q", "http://a/new?q"),
            (RedirectSpec { path: to("/"), ..plain.clone() }, "a", "/old//evil/", "http://a//evil/"),
            (
                RedirectSpec { scheme, ..plain.clone() },
                "[2001:db8::1]:80",
                "/old",
                "https://[2001:db8::1]/old",
            ),
            (RedirectSpec { scheme, ..plain.clone() }, "[2001:db8::1]", "/old", "https://[2001:db8::1]/old"),
        ];
        for (spec, authority, path, want) in cases {
            let authority: Authority = authority.parse().unwrap();
            let path: PathAndQuery = path.parse().unwrap();
            let normal = super::super::super::path::normal(path.path()).unwrap();
            let from =
                From { security: Security::Clear, authority: &authority, path: &path, normal: &normal };
            let got = location(&spec, &PathPattern::Prefix("/old".to_owned()), from).unwrap();
            assert_eq!(got, want);
        }
    }
}
