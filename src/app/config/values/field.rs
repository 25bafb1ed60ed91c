//! What stands in heads: names and values of fields, methods, names of cookies.

use http::header::{
    self, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode};

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;

/// The name of a field.
pub fn field_name(text: &str) -> Result<HeaderName, Wrong> {
    let wrong = |help: &str| Wrong::new(format!("{} is not the name of a field", quoted(text))).help(help);
    if text.is_empty() {
        return Err(Wrong::new("the name of a field is missing here").help("write one, such as X-Env"));
    }
    if let Some(name) = text.strip_suffix(':') {
        return Err(wrong(&format!("leave out the colon: {}", quoted(name))));
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong("write a name such as X-Env"))
}

/// The name of a field that may be changed on the way.
pub fn changed_field_name(text: &str) -> Result<HeaderName, Wrong> {
    let name = field_name(text)?;
    let shown = quoted(text);
    if name == HOST {
        return Err(Wrong::new(format!(
            "{shown} cannot be changed: backends get the host that was asked for"
        ))
        .help("leave it out; to send clients to another host, write `redirect = { host = \"...\" }`"));
    }
    if [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(&name) {
        return Err(Wrong::new(format!("{shown} cannot be changed: it says where the message ends"))
            .help("leave it out: it is written for each connection anew"));
    }
    let hop = [CONNECTION, TE, UPGRADE, header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION];
    if hop.contains(&name) || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str()) {
        return Err(Wrong::new(format!("{shown} cannot be changed: it is about one connection only"))
            .help("leave it out: it is taken away or written anew on each of them"));
    }
    Ok(name)
}

/// The value of a field.
pub fn field_value(text: &str) -> Result<HeaderValue, Wrong> {
    if text.trim() != text {
        return Err(Wrong::new(format!(
            "{} has spaces around it, and values of fields have none",
            quoted(text)
        ))
        .help(format!("write {}", quoted(text.trim()))));
    }
    // What is not ASCII means something else to everybody (RFC 9110 §5.5).
    HeaderValue::from_str(text).ok().filter(|_| text.is_ascii()).ok_or_else(|| {
        Wrong::new(format!("{} has characters that no field may have", quoted(text)))
            .help("write ASCII on one line; anything else has to be encoded")
    })
}

/// A method that routes can be for.
pub fn method(text: &str) -> Result<Method, Wrong> {
    let shown = quoted(text);
    let method = Method::from_bytes(text.as_bytes())
        .map_err(|_| Wrong::new(format!("{shown} is not a method")).help("write one, such as GET or POST"))?;
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Wrong::new(format!("no request with {shown} is routed"))
            .help("leave it out: such requests are refused"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(Wrong::new(format!("{shown} is no method that clients send: case matters"))
            .help(format!("write {upper}")));
    }
    Ok(method)
}

/// The name of a cookie (RFC 6265 §4.1.1).
pub fn cookie_name(text: &str) -> Result<String, Wrong> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(token) {
        return Err(Wrong::new(format!("{} is not a name for a cookie", quoted(text)))
            .help("write at most 64 letters, digits, `-` and `_`, such as backend"));
    }
    Ok(text.to_owned())
}

/// A status that sends clients elsewhere.
pub fn redirect_status(number: i128) -> Result<StatusCode, Wrong> {
    let status = u16::try_from(number).ok().filter(|number| [301, 302, 303, 307, 308].contains(number));
    status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or_else(|| {
        Wrong::new(format!("{number} is not a status that sends clients elsewhere"))
            .help("write 307 or 302 for now, 308 or 301 for good (the first of each keeps the method), or 303 for GET")
    })
}

/// A status for an answer.
pub fn answer_status(number: i128) -> Result<StatusCode, Wrong> {
    let help = match number {
        304 => {
            "whether something has changed only a backend can know: write another status, such as 200 or 404"
        }
        300..=399 => "to send clients elsewhere, write `redirect = { ... }`",
        205 | 206 | 100..=199 => "write a status that stands for itself, such as 200, 404 or 503",
        _ => "write a number from 200 to 599, such as 200, 404 or 503",
    };
    let status = u16::try_from(number)
        .ok()
        .filter(|number| matches!(number, 200..=204 | 207..=299 | 400..=599))
        .and_then(|number| StatusCode::from_u16(number).ok());
    status.ok_or_else(|| Wrong::new(format!("an answer cannot have status {number}")).help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_messages_is_not_changed() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Trailer",
            "connection",
            "TE",
            "Upgrade",
            "Keep-Alive",
            "Proxy-Connection",
            "HTTP2-Settings",
            "Proxy-Authorization",
        ] {
            assert!(field_name(name).is_ok(), "{name} can be looked at");
            assert!(changed_field_name(name).unwrap_err().message.contains("cannot be changed"), "{name}");
        }
        for name in ["", "a b", "x:", ":path", "é", "a\r\nb"] {
            assert!(changed_field_name(name).unwrap_err().help.is_some(), "{name}");
        }
        assert!(changed_field_name("X-Env").is_ok());
        for value in [" a", "a\r\nb", "é", "a\0"] {
            assert!(field_value(value).is_err(), "{value:?}");
        }
        assert!(field_value("").is_ok() && field_value("a, \"b\"").is_ok());
    }

    #[test]
    fn methods_cookies_and_statuses_are_those_that_there_are() {
        assert!(method("PATCH").is_ok() && method("PURGE").is_ok());
        for text in ["get", "", "CONNECT", "TRACE", "A B"] {
            assert!(method(text).unwrap_err().help.is_some(), "{text}");
        }
        assert!(cookie_name("a_b-1").is_ok());
        for text in ["", "a=b", "a;b", "a b", "é"] {
            assert!(cookie_name(text).is_err(), "{text}");
        }
        for (status, redirect, answer) in [
            (200, false, true),
            (206, false, false),
            (308, true, false),
            (304, false, false),
            (599, false, true),
        ] {
            assert_eq!(redirect_status(status).is_ok(), redirect, "{status}");
            assert_eq!(answer_status(status).is_ok(), answer, "{status}");
        }
        assert!(answer_status(600).is_err() && answer_status(-1).is_err() && answer_status(100).is_err());
    }
}
