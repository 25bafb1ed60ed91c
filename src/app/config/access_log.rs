//! `access_log` and `access_log_format`: at the top for all services of layer 7, or in one of them for that one.

use std::path::Path;

use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::values;
use crate::l7::spec::{LogFormat, LogSpec, LogTarget};

/// The words for what lines look like.
pub const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// What stands for standard output.
pub const STDOUT: &str = "-";

/// What stands for no log, where others have one.
const OFF: &str = "off";

const EXAMPLE: &str = "write the name of a file, \"-\" for standard output, or \"off\"";

/// Both keys as somebody wrote them.
#[derive(Debug, Default)]
pub struct Draft {
    target: Option<Spanned<String>>,
    format: Option<Spanned<String>>,
}

/// Where a log goes, as one place says.
#[derive(Clone, Debug)]
enum Target {
    Nowhere,
    To(LogTarget),
}

/// What one place says.
#[derive(Clone, Debug, Default)]
pub struct Said {
    target: Option<Target>,
    format: Option<LogFormat>,
}

impl Draft {
    /// Reads them out of a table.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Self {
        Self { target: table.text(reader, "access_log"), format: table.text(reader, "access_log_format") }
    }

    /// Checks them.
    pub fn check(&self, check: &mut Check) -> Said {
        let target = match self.target.as_ref().map(|text| text.get_ref().as_str()) {
            Some(STDOUT) => Some(Target::To(LogTarget::Stdout)),
            Some(OFF) => Some(Target::Nowhere),
            _ => check
                .value(self.target.as_ref(), |text| {
                    // A relative one is where the program runs: a log is no part of what stands beside the configuration.
                    values::file_name(text, Path::new("")).map_err(|wrong| wrong.help(EXAMPLE))
                })
                .map(|path| Target::To(LogTarget::File(path))),
        };
        let format =
            check.value(self.format.as_ref(), |word| values::one_of("`access_log_format`", word, &FORMATS));
        Said { target, format }
    }

    /// Notes a format that nothing is written in.
    pub fn check_use(&self, check: &mut Check, logs: bool) {
        if let (Some(format), false) = (&self.format, logs) {
            let message = "nothing is logged in this format";
            let help = "say where to: access_log = \"access.log\", or \"-\" for standard output";
            check.add(Mistake::warning(format.span(), message).help(help));
        }
    }
}

impl Said {
    /// The log of a service that says this, where the top of the file says `otherwise`.
    pub fn or(&self, otherwise: &Self) -> Option<LogSpec> {
        let Target::To(target) = self.target.clone().or_else(|| otherwise.target.clone())? else {
            return None;
        };
        Some(LogSpec { target, format: self.format.or(otherwise.format).unwrap_or_default() })
    }
}
