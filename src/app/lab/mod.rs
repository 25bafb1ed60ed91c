//! `fourseven lab`: the story, and the parts of the lab that can be used by themselves.
//!
//! This file reads the command line; `play` tells the story, and the room [`lab`](crate::lab) does
//! the work. The hidden parts are how the lab starts itself again as its own hosts.

mod memory;
mod options;
mod play;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;

use crate::app::{WRONG, output};
use crate::lab::load::{Kind, Load, Target};
use crate::lab::serve::{Serve, Serving};
use crate::lab::{host, inside};

const AFTER: &str = "\
Nothing has to be installed, configured or cleaned up: the network is made of namespaces that end
with this program. It needs no root where the system allows user namespaces and everybody may open
/dev/net/tun; where something forbids it, it says what, and plays in memory.

Examples:
  fourseven lab                      the story
  fourseven lab --nat dnat           the same, and backends see the client's own address
  fourseven lab --shell client       a prompt in the client; `exit` ends the lab
  fourseven lab --backend-cmd 'python3 -m http.server 8080'
                                     the user's own server as each backend, on FOURSEVEN_PORT";

/// What `fourseven lab` takes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: options::Options,
}

/// Parts of the lab by themselves.
#[derive(Debug, Subcommand)]
enum Part {
    /// A backend: HTTP, a TCP echo and a UDP echo, until it is killed.
    Serve(ServeArgs),
    /// A load: so many connections, each as fast as its answers come.
    Load(LoadArgs),
    /// A host of the lab, as its director starts it.
    #[command(hide = true)]
    Host {
        /// What it is called; for `ps` to show.
        name: String,
        /// The director's process id.
        #[arg(long)]
        parent: u32,
    },
    /// A program in a host of the lab, and whatever it starts.
    #[command(hide = true)]
    Inside {
        /// The process that holds the host's namespace.
        #[arg(long)]
        pid: u32,
        /// The director's process id.
        #[arg(long)]
        parent: u32,
        /// What the machine is called there.
        #[arg(long)]
        name: Option<String>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// The inner half of `inside`.
    #[command(hide = true)]
    Contained {
        /// The process id of the outer half.
        #[arg(long)]
        parent: u32,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true).args(["http", "tcp_echo", "udp_echo"]))]
struct ServeArgs {
    /// Speak HTTP/1.1 here (may be given more than once). GET /bytes/N gives N bytes.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Vec<SocketAddr>,
    /// Send back over TCP what comes.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp_echo: Vec<SocketAddr>,
    /// Send back over UDP what comes; `who?` is answered with the name.
    #[arg(long, value_name = "ADDRESS:PORT")]
    udp_echo: Vec<SocketAddr>,
    /// What the server calls itself.
    #[arg(long, default_value = "backend")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct LoadArgs {
    /// `http://ADDRESS:PORT/PATH`, or tcp/ADDRESS:PORT for ping-pong.
    target: Target,
    /// http over kept connections, http-new over a new one each, or ping-pong: 64 bytes over a TCP
    /// echo [default: http, or ping-pong to a tcp/ target].
    #[arg(long, value_parser = ["http", "http-new", "ping-pong"])]
    kind: Option<String>,
    /// How many connections at a time.
    #[arg(long, default_value = "16")]
    connections: NonZeroUsize,
    /// For how long: 5s, 500ms.
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// The lab could not be built, or something in it failed that should not.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.part {
            None => play::run(&self.options),
            Some(Part::Serve(args)) => serve(args),
            Some(Part::Load(args)) => load(args),
            Some(Part::Host { name, parent }) => {
                host::run(parent).with_context(|| format!("host {name}"))?;
                Ok(ExitCode::SUCCESS)
            }
            Some(Part::Inside { pid, parent, name, program }) => {
                let status = inside::run(pid, parent, name.as_deref(), &program)?;
                Ok(ExitCode::from(inside::exit_code(status)))
            }
            Some(Part::Contained { parent, program }) => {
                Err(inside::become_contained(parent, &program).into())
            }
        }
    }
}

fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let ServeArgs { http, tcp_echo, udp_echo, name } = args;
    Serving::start(Serve { name, http, tcp_echo, udp_echo })?.wait();
    Ok(ExitCode::SUCCESS)
}

fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let speaks_http = args.target.path.is_some();
    let kind = match args.kind {
        Some(kind) => kind.parse().map_err(anyhow::Error::msg)?,
        None if speaks_http => Kind::Http,
        None => Kind::PingPong,
    };
    if (kind == Kind::PingPong) == speaks_http {
        output::say("ping-pong goes to tcp/ADDRESS:PORT, and http to http://ADDRESS:PORT/PATH");
        return Ok(ExitCode::from(WRONG));
    }
    let (connections, duration) = (args.connections, args.duration);
    let load = Load { target: args.target, kind, connections, duration };
    let outcome = load.run().with_context(|| format!("no load on {}", load.target.address))?;
    let text = if args.json { serde_json::to_string(&outcome)? } else { outcome.to_string() };
    output::print(text + "\n")?;
    Ok(if outcome.done > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `5s`, `500ms`, `2m`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a number and s, ms or m, such as 5s".to_owned())?;
    match unit {
        "s" | "" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("`{unit}` is none of s, ms, m")),
    }
    .and_then(|duration| {
        // An instant that far ahead still exists.
        if duration <= Duration::from_hours(24) { Ok(duration) } else { Err("at most a day".to_owned()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        for wrong in ["", "s", "-1s", "5h", "99999999999999999999s", "99999999m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
