//! What the user asks for: the command line, the configuration, one file a command.
//!
//! Results go to stdout and all else to stderr. The exit status is 0 where it was done, 1 where
//! it failed or the answer is no, and 2 where the command line or the configuration is wrong.

mod access_log;
mod certificates;
mod check;
pub mod cli;
pub mod config;
pub mod core;
pub mod cores;
mod doctor;
pub mod lab;
mod layer7;
pub mod output;
pub mod package;
mod privilege;
mod record;
pub mod report;
mod run;
pub mod upstream;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};

/// It failed, or the answer is no.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
pub const WRONG: u8 = 2;

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are such "errors" too, and the exit code says which it was. A
        // reader that has gone away is no reason to complain.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG));
        }
    };
    output::start_logging(cli.verbose);
    let result = match cli.command {
        None => {
            let _ = Cli::command().print_help();
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Run(args)) => args.run(),
        Some(Command::Check(args)) => args.run(),
        Some(Command::Lab(args)) => args.run(),
        Some(Command::Doctor(args)) => args.run(),
        Some(Command::Completions(args)) => args.run(),
        Some(Command::PackageFiles(args)) => args.run(),
    };
    result.unwrap_or_else(|error| {
        output::complain(&error);
        ExitCode::from(FAILED)
    })
}
