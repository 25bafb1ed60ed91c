//! What can go wrong with the lab itself.

use std::io;

use signal_hook::low_level::signal_name;

use super::sandbox::Forbidden;
use crate::io::IoError;

/// Why the lab could not be built, or came to an early end.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Something on this machine forbids it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The user, or the system, asked for the end.
    #[error("ended by {}", signal_name(*.0).unwrap_or("a signal"))]
    Interrupted(i32),
    /// A host's process ended when it should not have.
    #[error("{host} ended unexpectedly{}", last_words(said))]
    HostGone {
        /// Which.
        host: String,
        /// What it wrote to standard error last.
        said: Vec<String>,
    },
    /// A host did not answer in time.
    #[error("{host} does not answer")]
    Unresponsive {
        /// Which.
        host: String,
    },
    /// A host could not do what it was told.
    #[error("{host}: {why}")]
    Failed {
        /// Which.
        host: String,
        /// Why.
        why: String,
    },
    /// The user's own backend does not serve.
    #[error("{host}: the backend command {why}")]
    BackendCommand {
        /// The host that it was to serve on.
        host: String,
        /// What it does instead.
        why: String,
    },
    /// The network could not be laid.
    #[error(transparent)]
    Network(#[from] IoError),
    /// Nobody reads the story any more.
    #[error("cannot write: {0}")]
    Output(io::Error),
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl LabError {
    /// For `map_err`: names what was tried.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

fn last_words(said: &[String]) -> String {
    if said.is_empty() { String::new() } else { format!("; it said:\n  {}", said.join("\n  ")) }
}
