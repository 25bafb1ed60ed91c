//! The command line.

use clap::{ArgAction, Parser, Subcommand};

/// What comes first in the short help, and so what a newcomer sees who types only the name.
const BEFORE: &str = "New here? Try `fourseven lab`: a private network, real packets, nothing left behind.";

const AFTER: &str = "\
Examples:
  fourseven lab                         see it work, in namespaces of its own
  fourseven check fourseven.toml        find every mistake in a configuration
  sudo fourseven run -c fourseven.toml  balance, in the namespace it is started in

Exit status: 0 done, 1 it failed, 2 wrong usage or configuration.";

/// A packet-level load balancer on a TUN device.
#[expect(clippy::doc_markdown, reason = "these comments are the help that is printed")]
#[derive(Debug, Parser)]
#[command(version, before_help = BEFORE, after_help = AFTER, disable_help_subcommand = true)]
pub struct Cli {
    /// Say more about what is done; -vv for still more. RUST_LOG does the same by part.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a throw-away network and see the balancer work in it.
    Lab(Box<crate::app::lab::Args>),
    /// Balance, in the network namespace it is started in.
    Run(Box<crate::app::run::Args>),
    /// Find every mistake in a configuration.
    Check(crate::app::check::Args),
    /// Find out what this machine allows, and what mends the rest.
    Doctor(crate::app::doctor::Args),
    /// Print what completes this command line in a shell.
    Completions(crate::app::package::Completions),
    /// Write the files that a package ships.
    #[command(hide = true)]
    PackageFiles(crate::app::package::Files),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
