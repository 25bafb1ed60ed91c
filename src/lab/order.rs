//! What the director says to a host, and what the host says back: one JSON value a line, over
//! the host's standard input and output.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, Try};
use super::serve::Serve;
use super::topology::LinkEnd;
use super::visit::{Visit, Visited};

/// What a host can be told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// Set up links that have been moved into the namespace.
    SetUp {
        /// The links' ends on this host.
        links: Vec<LinkEnd>,
    },
    /// Start the built-in servers.
    Serve {
        /// Which.
        what: Serve,
    },
    /// Stop them; the namespace and its kernel stay.
    StopServing,
    /// Wait until something listens there.
    AwaitListener {
        /// Where.
        at: SocketAddr,
        /// How long to wait for it.
        patience: Duration,
    },
    /// Try something, and say what came of it.
    Try {
        /// What.
        what: Try,
    },
    /// Trust those who sign with these certificates, for visits.
    Trust {
        /// The certificates, in PEM.
        authorities: String,
    },
    /// Make a visit, and say what came of it.
    Visit {
        /// What.
        what: Visit,
    },
    /// Become the balancer: replace this program, in this process and so in this namespace, by
    /// `fourseven` with these arguments. There is no answer unless that fails.
    Become {
        /// The arguments, from the subcommand on.
        arguments: Vec<String>,
        /// Files that are there for it, in memory, as long as it runs.
        files: Vec<TextFile>,
    },
}

/// A file by its text. Where its name stands in braces, in the text of a later file or in an argument, the path is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// What a host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Its namespace is there. Said once, unasked, before all else.
    Ready,
    /// The order is carried out.
    Done,
    /// What came of a try.
    Tried {
        /// The try.
        attempt: Attempt,
    },
    /// What came of a visit.
    Visited {
        /// That.
        visited: Visited,
    },
    /// The order could not be carried out.
    Failed {
        /// Why.
        why: String,
    },
}

/// Writes one value as one line.
///
/// # Errors
///
/// The other side is gone.
pub fn say(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one value; `None` at the end of the stream.
///
/// # Errors
///
/// The stream broke, or the line is not such a value.
pub fn hear<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::attempt::End;

    #[test]
    fn what_is_said_is_heard() {
        let orders = [
            Order::StopServing,
            Order::Try { what: Try::Http("[fd47::1]:80".parse().unwrap()) },
            Order::Become {
                arguments: vec!["run".into(), "two\nlines".into()],
                files: vec![TextFile { name: "a".into(), text: "b\n".into() }],
            },
        ];
        let mut wire = Vec::new();
        for order in &orders {
            say(&mut wire, order).unwrap();
        }
        let mut wire = wire.as_slice();
        for order in orders {
            assert_eq!(hear(&mut wire).unwrap(), Some(order));
        }
        assert_eq!(hear::<Order>(&mut wire).unwrap(), None);
        let attempt = Attempt::new(Duration::from_micros(7), End::Broken { why: "x".into() });
        let mut wire = Vec::new();
        say(&mut wire, &Answer::Tried { attempt: attempt.clone() }).unwrap();
        assert_eq!(hear(&mut wire.as_slice()).unwrap(), Some(Answer::Tried { attempt }));
    }
}
