//! `fourseven run`: the balancer.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::config::{self, Flags};
use crate::app::{WRONG, check, output};

const AFTER: &str = "\
It needs CAP_NET_ADMIN in the namespace it is started in, and /dev/net/tun. Ctrl-C ends it: it takes
back what it changed on the host, and prints its report. SIGUSR1 prints the report and goes on.

Examples:
  sudo fourseven run -c fourseven.toml
  sudo fourseven run --mode l4 --vip tcp/10.47.0.1:80 \\
      --backend 10.47.2.2:8080 --backend 10.47.2.3:8080
  fourseven run --print-config --vip tcp/10.47.0.1:80 --backend 10.47.2.2:8080 > fourseven.toml";

/// What `fourseven run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = [
        "mode", "vip", "backend", "nat", "scheduler", "local", "io", "queues", "tun",
    ])]
    config: Option<PathBuf>,
    /// Print the final report as JSON.
    #[arg(long)]
    json: bool,
    /// Leave the host's addresses, routes and settings to the user.
    #[arg(long)]
    no_configure: bool,
    /// Print the configuration that this would run with, as TOML, and end.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    /// When the device cannot be had, the host not be configured, or the balancer has to end.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let loaded = match &self.config {
            Some(file) => check::load(file),
            None if self.flags.is_empty() => {
                output::say(NOTHING_TO_BALANCE);
                None
            }
            None => {
                let (source, checked) = config::from_flags(&self.flags);
                check::usable(source, checked)
            }
        };
        let Some((_, mut config)) = loaded else { return Ok(ExitCode::from(WRONG)) };
        config.tun.configure &= !self.no_configure;
        if self.print_config {
            output::print(&config)?;
            return Ok(ExitCode::SUCCESS);
        }
        anyhow::bail!("not built yet");
    }
}

const NOTHING_TO_BALANCE: &str = "\
fourseven run: nothing says what to balance; give a file, or flags:

  fourseven run -c fourseven.toml
  fourseven run --mode l4 --vip tcp/10.47.0.1:80 --backend 10.47.2.2:8080 --backend 10.47.2.3:8080

To see it work without any preparation: fourseven lab";
