//! What became of one thing that the client tried: the story is told in these.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Something that the client can try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "try", content = "target", rename_all = "snake_case")]
pub enum Try {
    /// One HTTP request over a connection of its own.
    Http(SocketAddr),
    /// One datagram that asks for its receiver's name.
    Datagram(SocketAddr),
    /// One ICMP echo request.
    Ping(IpAddr),
}

/// One try: what came of it, and after how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From before the first packet until the end was known.
    pub micros: u64,
    /// What came of it.
    #[serde(flatten)]
    pub end: End,
}

/// How a try can end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// There was an answer.
    Answered {
        /// The backend that it came from, where the answer says so.
        backend: Option<String>,
        /// The address of its client as that backend saw it.
        seen: Option<SocketAddr>,
    },
    /// The other side said no at once (RST, or ICMP port unreachable).
    Refused,
    /// A router said that there is no way (ICMP unreachable).
    Unreachable,
    /// Nothing came back: the one end that a balancer must never cause.
    Silence,
    /// Something else went wrong.
    Broken {
        /// What.
        why: String,
    },
}

impl Attempt {
    /// A try that took `took`.
    pub fn new(took: Duration, end: End) -> Self {
        Self { micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX), end }
    }

    /// The backend that answered, if one did and said so.
    pub fn backend(&self) -> Option<&str> {
        match &self.end {
            End::Answered { backend, .. } => backend.as_deref(),
            End::Refused | End::Unreachable | End::Silence | End::Broken { .. } => None,
        }
    }

    /// Whether there was an answer.
    pub const fn answered(&self) -> bool {
        matches!(self.end, End::Answered { .. })
    }
}

impl End {
    /// An answer that says nothing about where it is from.
    pub const ANSWERED: Self = Self::Answered { backend: None, seen: None };

    /// What an error of a socket says about the network.
    pub fn of_error(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => Self::Refused,
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Self::Unreachable,
            Some(Errno::ETIMEDOUT | Errno::EAGAIN) => Self::Silence,
            _ if error.kind() == io::ErrorKind::TimedOut => Self::Silence,
            _ => Self::Broken { why: error.to_string() },
        }
    }
}

/// The body of a built-in backend's answer: lines that `curl` shows well. A client over IPv4 is shown as one, also
/// where the server listens on `[::]` and sees a mapped address.
pub fn introduce(backend: &str, peer: SocketAddr, request: &str) -> String {
    let client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    format!("backend: {backend}\nclient: {client}\nrequest: {request}\n")
}

/// Reads [`introduce`]'s lines; any other body is an answer that does not say where it is from.
pub fn read_introduction(body: &[u8]) -> End {
    let text = String::from_utf8_lossy(body);
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    End::Answered {
        backend: field("backend: ").map(str::to_owned),
        seen: field("client: ").and_then(|text| text.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backend_says_of_itself_is_understood() {
        let peer = "10.47.3.9:4711".parse().unwrap();
        let end = read_introduction(introduce("backend-2", peer, "GET / HTTP/1.1").as_bytes());
        assert_eq!(end, End::Answered { backend: Some("backend-2".into()), seen: Some(peer) });
        assert_eq!(read_introduction(b"<html>\xff"), End::ANSWERED);
        let mapped = "[::ffff:10.47.3.9]:4711".parse().unwrap();
        assert_eq!(introduce("b", mapped, "who?"), introduce("b", peer, "who?"));
    }

    #[test]
    fn errors_of_sockets_keep_refusal_and_silence_apart() {
        for (errno, want) in [
            (Errno::ECONNREFUSED, End::Refused),
            (Errno::EHOSTUNREACH, End::Unreachable),
            (Errno::EAGAIN, End::Silence),
        ] {
            assert_eq!(End::of_error(&io::Error::from(errno)), want, "{errno}");
        }
    }
}
