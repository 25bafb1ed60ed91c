//! What the two ends of a handshake agreed upon.

use rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::certificate::Facts;

/// What was agreed upon, in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version of TLS.
    pub version: Version,
    /// The protocol above it; `None` where the client named none.
    pub alpn: Option<Alpn>,
    /// The name that was asked for.
    pub sni: Option<Box<str>>,
    /// The cipher suite, by its name in the registry.
    pub suite: &'static str,
    /// Whether it was resumed.
    pub handshake: Handshake,
    /// Whom the certificate of the other end is about, where it was asked for one and showed it.
    pub peer: Option<Box<str>>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.2, RFC 5246.
    Tls12,
    /// 1.3, RFC 8446.
    Tls13,
}

impl Version {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// A protocol above TLS, as ALPN (RFC 7301) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`.
    Http11,
    /// `h2`.
    H2,
}

impl Alpn {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http11 => "http/1.1",
            Self::H2 => "h2",
        }
    }
}

/// How much of a handshake there was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handshake {
    /// All of it.
    Full,
    /// All of it, and the client had to say its hello twice, for want of a key share that fits.
    FullRetried,
    /// The session of an earlier one went on.
    Resumed,
}

impl Handshake {
    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::FullRetried => "full_retried",
            Self::Resumed => "resumed",
        }
    }
}

impl Agreed {
    /// Of a connection whose handshake is done.
    pub(super) fn of(connection: &CommonState, sni: Option<&str>) -> Self {
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
                // Nothing else is enabled.
                _ => Version::Tls13,
            },
            alpn: match connection.alpn_protocol() {
                Some(b"h2") => Some(Alpn::H2),
                Some(b"http/1.1") => Some(Alpn::Http11),
                _ => None,
            },
            sni: sni.map(Into::into),
            suite: connection
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            handshake: match connection.handshake_kind() {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                Some(HandshakeKind::FullWithHelloRetryRequest) => Handshake::FullRetried,
                Some(HandshakeKind::Full) | None => Handshake::Full,
            },
            peer: leaf.and_then(|leaf| Facts::read(leaf).ok()).map(|facts| facts.subject),
        }
    }
}
