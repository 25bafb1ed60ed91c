//! `fourseven doctor`: what this machine allows, what it does not, and the one command that mends it.
//!
//! ```text
//!   here: rights, switches, links, limits ──┐
//!   probe: a namespace of its own, a real ──┴─▶ findings ─▶ a line each; status 1 where `run` or `lab` cannot work
//!          device in it, gone with its process
//! ```
//!
//! Nothing is changed. What can only be found out by trying is tried in a process of its own, in a namespace of its own.

mod finding;
mod here;
mod probe;

use std::process::ExitCode;

use serde::Serialize;

use self::finding::{Finding, State};
use crate::app::{FAILED, output};

const AFTER: &str = "\
Each line says what was looked at, what was found, and where something is amiss the one command that mends it.
Nothing is changed. Exit status: 0 `run` and `lab` can work here, 1 something keeps one of them from it.";

/// What `fourseven doctor` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    /// Try what can only be tried, in a namespace of this process, and print what came of it.
    #[arg(long, hide = true)]
    probe: bool,
}

/// All of it, as JSON has it.
#[derive(Debug, Serialize)]
struct Findings<'a> {
    findings: &'a [Finding],
    /// Whether `run` and `lab` can work here.
    ready: bool,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// When stdout does not take the result.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.probe {
            return probe::run();
        }
        let mut findings = here::look();
        findings.extend(probe::ask().findings());
        let ready = findings.iter().all(|finding| finding.state != State::Wrong);
        if self.json {
            let all = Findings { findings: &findings, ready };
            output::print(format_args!("{}\n", serde_json::to_string_pretty(&all)?))?;
        } else {
            for finding in &findings {
                output::print(finding)?;
            }
        }
        Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }
}
