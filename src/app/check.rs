//! `fourseven check`: says what is wrong with a configuration.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::config::{self, Checked, Config, Source, counted, render};
use crate::app::{WRONG, output};

const AFTER: &str = "\
Every mistake is shown with its line and column, and with what to write instead.
Exit status: 0 it is fine (there may be warnings), 2 there are mistakes.

Examples:
  fourseven check fourseven.toml
  fourseven check --print fourseven.toml   the same with every default written out";

/// What `fourseven check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The configuration; - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the configuration with every default written out, as TOML.
    #[arg(long)]
    print: bool,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// When stdout does not take the result.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Some((source, config)) = load(&self.file) else { return Ok(ExitCode::from(WRONG)) };
        if self.print {
            output::print(&config)?;
        } else {
            output::print(format_args!("{}: {}\n", source.name(), summary(&config)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads and checks a file, and says on stderr what is wrong with it. `None` where it cannot be
/// used.
pub fn load(file: &Path) -> Option<(Source, Config)> {
    let (source, mistake) = match Source::read(file) {
        Ok(read) => read,
        Err(error) => {
            output::complain(&error.into());
            return None;
        }
    };
    let checked = match mistake {
        // What stands around bytes that are not text cannot be trusted either.
        Some(mistake) => Checked::unreadable(mistake),
        None => config::from_toml(&source),
    };
    usable(source, checked)
}

/// Looks at the files that are named, and says on stderr what there is to say.
pub fn usable(source: Source, checked: Checked) -> Option<(Source, Config)> {
    let checked = checked.look_at_files();
    if !checked.mistakes.is_empty() {
        output::say(render(&source, &checked.mistakes, output::look()).trim_end_matches('\n'));
    }
    checked.config.map(|config| (source, config))
}

/// What a configuration comes to.
fn summary(config: &Config) -> String {
    let Config { services, plan, .. } = config;
    let listens: usize = services.iter().map(|service| service.listen.len()).sum();
    let listens = listens + plan.sites.iter().map(|site| site.listen.len()).sum::<usize>();
    let backends: usize = services.iter().map(|service| service.backends.len()).sum();
    let backends = backends + plan.groups.iter().map(|group| group.members.len()).sum::<usize>();
    let services = services.len() + plan.sites.len();
    let routes = plan.sites.iter().map(|site| site.routes.len()).sum();
    let counts = [(services, "service"), (listens, "listen"), (routes, "route"), (backends, "backend")];
    let counts = counts.into_iter().filter(|(count, what)| *what != "route" || *count > 0).map(counted);
    format!("fine ({})", counts.collect::<Vec<_>>().join(", "))
}
