//! Where a site's requests are logged, and how.

use std::path::PathBuf;

/// The access log of a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogSpec {
    /// Where its lines go.
    pub target: LogTarget,
    /// What they look like.
    pub format: LogFormat,
}

/// Where lines of a log go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

/// What lines of a log look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// Words and `key=value`.
    #[default]
    Text,
    /// A JSON object.
    Json,
}
