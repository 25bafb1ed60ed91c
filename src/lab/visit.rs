//! What the lab's client does as a browser would: requests one behind the other over one connection with TLS, and what
//! it learns from that.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Requests over one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Where to.
    pub at: SocketAddr,
    /// Whom the client means: it says so by SNI, and the certificate must be for it.
    pub name: String,
    /// Over which connection.
    pub over: Over,
    /// What to ask for.
    pub asks: Vec<Ask>,
}

/// Over which connection a visit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// One of its own, which stays open behind it.
    New,
    /// That of the visit before.
    Kept,
}

/// One request: `GET` of a path of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
}

/// What came of a visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visited {
    /// The connection; `None` where there was none.
    pub connection: Option<Connection>,
    /// The answers, in the order of the requests; fewer where it failed.
    pub answers: Vec<Said>,
    /// Why it came to an early end.
    pub failed: Option<String>,
}

/// A client's connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its end on the client.
    pub client: SocketAddr,
    /// Whom the certificate is for. It was good, or there would be no connection.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
}

/// An answer, and what it says of where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// What was asked.
    #[serde(flatten)]
    pub ask: Ask,
    /// From the request until the answer was whole; for the first one, without the handshakes.
    pub micros: u64,
    /// The status.
    pub status: u16,
    /// The backend.
    pub backend: Option<String>,
    /// Its client, as that backend saw it.
    pub seen: Option<SocketAddr>,
    /// Whom it was told the request is from: `X-Forwarded-For`.
    pub forwarded_for: Option<String>,
}

impl Ask {
    /// `GET` of this.
    pub fn of(host: &str, path: &str) -> Self {
        Self { host: host.to_owned(), path: path.to_owned() }
    }
}

impl Said {
    /// Reads the body of a built-in backend's answer: that of [`introduce`](super::attempt::introduce), and a line for the
    /// header. Of any other body nothing is known.
    pub fn read(ask: &Ask, micros: u64, status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        Self {
            ask: ask.clone(),
            micros,
            status,
            backend: field("backend: "),
            seen: field("client: ").and_then(|text| text.parse().ok()),
            forwarded_for: field("x-forwarded-for: "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backend_was_told_is_understood() {
        let ask = Ask::of("www.example.com", "/");
        let body = b"backend: b\nclient: 10.47.2.1:9\nrequest: GET / HTTP/1.1\nx-forwarded-for: 10.47.1.2\n";
        let said = Said::read(&ask, 7, 200, body);
        assert_eq!((said.backend.as_deref(), said.forwarded_for.as_deref()), (Some("b"), Some("10.47.1.2")));
        assert_eq!(said.seen, "10.47.2.1:9".parse().ok());
        let other = Said::read(&ask, 7, 502, b"<html>\xff");
        assert_eq!((other.status, other.backend, other.seen), (502, None, None));
    }
}
