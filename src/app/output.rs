//! Where words go: results to stdout, the rest to stderr, and neither minds a reader that has gone.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::app::config::Look;

/// Writes a result to stdout.
///
/// # Errors
/// When stdout does not take it; but not when its reader has gone away, as `head` does, since
/// then there is nobody to miss it.
pub fn print(text: impl Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to stdout"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a line to stderr. Where that is not possible there is nobody left to tell.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says why it failed, with the chain of causes.
pub fn complain(error: &anyhow::Error) {
    say(format_args!("fourseven: {error:#}"));
}

/// How stderr wants to be written to. A pipe or a file gets plain text, the same everywhere.
pub fn look() -> Look {
    if !io::stderr().is_terminal() {
        return Look::PLAIN;
    }
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let dumb = set("TERM").is_none_or(|term| term == "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| set(name));
    let utf8 = locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    Look { unicode: utf8 && !dumb, color: set("NO_COLOR").is_none() && !dumb }
}

/// Logs to stderr: warnings, or more with `-v`, or what `RUST_LOG` says.
pub fn start_logging(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let asked = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let (filter, problem) = match asked.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new(default), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(problem)) => (EnvFilter::new(default), Some(problem)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(look().color)
        .with_target(false)
        .init();
    if let Some(problem) = problem {
        tracing::warn!("RUST_LOG is not a filter, and is not used: {problem}");
    }
}
