//! A record as one line.
//!
//! What clients sent is quoted, and nothing in it can end the quotes or the line, or reach a terminal as more than text.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::l7::access::{Record, Times};
use crate::l7::exchange::Origin;
use crate::l7::spec::LogFormat;

/// How much of a text is shown. Paths may be longer; nobody reads the rest.
const MOST: usize = 4 << 10;

/// The line, with its end.
pub(super) fn of(site: &str, format: LogFormat, record: &Record<'_>) -> String {
    let mut line = match format {
        LogFormat::Text => text(site, record),
        LogFormat::Json => json(site, record),
    };
    line.push('\n');
    line
}

/// The time of day, as RFC 3339 has it.
fn now() -> String {
    let mut text = String::with_capacity(32);
    // Writing into a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn upstream(origin: Origin) -> &'static str {
    match origin {
        Origin::New => "new",
        Origin::Reused => "reused",
    }
}

fn text(site: &str, record: &Record<'_>) -> String {
    let mut line = String::with_capacity(512);
    let Times { tls, wait, connect, first_byte, total } = record.times;
    let asked = record.request;
    line.push_str(&now());
    plain(&mut line, "site", site);
    plain(&mut line, "client", record.client);
    plain(&mut line, "vip", record.vip);
    quoted(&mut line, "sni", record.server_name.map(str::as_bytes));
    quoted(&mut line, "host", asked.map(|asked| asked.host));
    quoted(&mut line, "method", asked.map(|asked| asked.method.as_bytes()));
    quoted(&mut line, "path", asked.map(|asked| asked.path.as_bytes()));
    plain(&mut line, "version", asked.map_or("-", |asked| asked.version));
    option(&mut line, "status", record.status);
    plain(&mut line, "received", record.received);
    plain(&mut line, "sent", record.sent);
    quoted(&mut line, "route", record.route.map(str::as_bytes));
    option(&mut line, "backend", record.backend);
    option(&mut line, "upstream", record.upstream.map(upstream));
    plain(&mut line, "tries", record.tries);
    quoted(&mut line, "cache", record.cache.map(|cache| cache.to_string()).as_deref().map(str::as_bytes));
    option(&mut line, "why", record.why);
    option(&mut line, "tls_ms", tls.map(millis));
    plain(&mut line, "wait_ms", millis(wait));
    plain(&mut line, "connect_ms", millis(connect));
    option(&mut line, "first_byte_ms", first_byte.map(millis));
    plain(&mut line, "total_ms", millis(total));
    line
}

fn plain(line: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = write!(line, " {key}={value}");
}

fn option(line: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => plain(line, key, value),
        None => plain(line, key, "-"),
    }
}

fn quoted(line: &mut String, key: &str, value: Option<&[u8]>) {
    let Some(value) = value else { return plain(line, key, "-") };
    let _ = write!(line, " {key}=\"");
    let shown = value.get(..MOST).unwrap_or(value);
    for byte in shown {
        match byte {
            b'"' | b'\\' => line.extend(['\\', char::from(*byte)]),
            0x20..=0x7e => line.push(char::from(*byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    line.push_str(if shown.len() < value.len() { "\"..." } else { "\"" });
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// A line of JSON.
#[derive(Serialize)]
struct Json<'a> {
    time: String,
    site: &'a str,
    client: String,
    vip: String,
    sni: Option<String>,
    host: Option<String>,
    method: Option<String>,
    path: Option<String>,
    version: Option<&'static str>,
    status: Option<u16>,
    received: u64,
    sent: u64,
    route: Option<String>,
    backend: Option<String>,
    upstream: Option<&'static str>,
    tries: u32,
    cache: Option<String>,
    why: Option<&'static str>,
    tls_ms: Option<f64>,
    wait_ms: f64,
    connect_ms: f64,
    first_byte_ms: Option<f64>,
    total_ms: f64,
}

fn json(site: &str, record: &Record<'_>) -> String {
    let Times { tls, wait, connect, first_byte, total } = record.times;
    let asked = record.request;
    let line = Json {
        time: now(),
        site,
        client: record.client.to_string(),
        vip: record.vip.to_string(),
        sni: record.server_name.map(|name| shown(name.as_bytes())),
        host: asked.map(|asked| shown(asked.host)),
        method: asked.map(|asked| shown(asked.method.as_bytes())),
        path: asked.map(|asked| shown(asked.path.as_bytes())),
        version: asked.map(|asked| asked.version),
        status: record.status,
        received: record.received,
        sent: record.sent,
        route: record.route.map(|route| shown(route.as_bytes())),
        backend: record.backend.map(|backend| backend.to_string()),
        upstream: record.upstream.map(upstream),
        tries: record.tries,
        cache: record.cache.map(|cache| cache.to_string()),
        why: record.why,
        tls_ms: tls.map(fraction),
        wait_ms: fraction(wait),
        connect_ms: fraction(connect),
        first_byte_ms: first_byte.map(fraction),
        total_ms: fraction(total),
    };
    // A struct of texts and numbers is never refused.
    let text = serde_json::to_string(&line).unwrap_or_default();
    if !text.contains(char::is_control) {
        return text;
    }
    // JSON need not escape DEL and the controls of Latin-1, and terminals obey some of them.
    let escaped = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(escaped).collect()
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..MOST).unwrap_or(bytes));
    if bytes.len() > MOST { format!("{text}...") } else { text.into_owned() }
}

/// Milliseconds, to the microsecond.
fn fraction(time: Duration) -> f64 {
    let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::l7::access::Asked;
    use crate::packet::Endpoint;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    fn record() -> Record<'static> {
        Record {
            client: endpoint("198.51.100.7:4711"),
            vip: endpoint("[2001:db8::1]:443"),
            server_name: Some("site.example.com"),
            request: Some(Asked {
                method: "GET",
                host: b"Site.example.com",
                path: "/a?b=\"c\\",
                version: "HTTP/2",
            }),
            status: Some(200),
            received: 3,
            sent: 5,
            route: Some("*.example.com/a"),
            backend: Some(endpoint("10.0.0.1:8080")),
            upstream: Some(Origin::Reused),
            tries: 1,
            cache: None,
            why: None,
            times: Times {
                tls: Some(Duration::from_micros(1234)),
                wait: Duration::ZERO,
                connect: Duration::from_micros(20),
                first_byte: Some(Duration::from_millis(7)),
                total: Duration::from_micros(7_100),
            },
        }
    }

    #[test]
    fn a_line_says_all_that_is_known() {
        let line = of("web", LogFormat::Text, &record());
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "site=web client=198.51.100.7:4711 vip=[2001:db8::1]:443 sni=\"site.example.com\" \
             host=\"Site.example.com\" method=\"GET\" path=\"/a?b=\\\"c\\\\\" version=HTTP/2 status=200 received=3 \
             sent=5 route=\"*.example.com/a\" backend=10.0.0.1:8080 upstream=reused tries=1 cache=- why=- \
             tls_ms=1.234 wait_ms=0.000 connect_ms=0.020 first_byte_ms=7.000 total_ms=7.100\n"
        );
        let json: serde_json::Value = serde_json::from_str(&of("web", LogFormat::Json, &record())).unwrap();
        assert_eq!(json["path"], "/a?b=\"c\\");
        assert_eq!((&json["status"], &json["why"], &json["cache"]), (&200.into(), &().into(), &().into()));
        assert_eq!((json["tls_ms"].as_f64(), json["total_ms"].as_f64()), (Some(1.234), Some(7.1)));
    }

    #[test]
    fn a_connection_without_a_request_has_a_line_too() {
        let record = Record { request: None, status: None, why: Some("too_many_from_source"), ..record() };
        let line = of("web", LogFormat::Text, &record);
        assert!(line.contains(" host=- method=- path=- version=- status=- "), "{line}");
        assert!(line.contains(" why=too_many_from_source "), "{line}");
        let json: serde_json::Value = serde_json::from_str(&of("web", LogFormat::Json, &record)).unwrap();
        assert!(json["method"].is_null() && json["status"].is_null());
    }

    proptest::proptest! {
        #[test]
        fn whatever_clients_send_is_one_line_without_controls(
            host in proptest::collection::vec(proptest::num::u8::ANY, 0..5000),
            path in "\\PC*|.*",
        ) {
            let asked = Asked { host: &host, path: &path, ..record().request.unwrap() };
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = of("web", format, &Record { request: Some(asked), ..record() });
                let text = line.strip_suffix('\n').unwrap();
                proptest::prop_assert!(!text.contains(char::is_control), "{}", text);
                proptest::prop_assert!(line.len() < 64 << 10);
                if format == LogFormat::Json {
                    let json: serde_json::Value = serde_json::from_str(text).unwrap();
                    proptest::prop_assert_eq!(json["status"].as_u64(), Some(200));
                }
            }
        }
    }
}
