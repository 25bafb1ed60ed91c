//! Placeholder: `fourseven lab`.

use std::process::ExitCode;

/// What `fourseven lab` takes.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// None yet.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        Ok(ExitCode::SUCCESS)
    }
}
