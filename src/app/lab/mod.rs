//! `fourseven lab`: the story, and the parts of the lab that can be used by themselves.
//!
//! This file reads the command line; `play` tells the story, and the room [`lab`](crate::lab) does
//! the work. The hidden parts are how the lab starts itself again as its own hosts.

mod balancer;
mod memory;
mod options;
mod play;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;

use crate::app::{WRONG, output};
use crate::lab::load::{Kind, Load, Target, Trust, Until, Version};
use crate::lab::serve::{Certificate, Serve, Serving};
use crate::lab::{host, inside, limits};

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
    /// Print the configuration of the balancer, both layers in one file, and end.
    #[arg(long, conflicts_with_all = ["hold", "shell", "json", "memory"])]
    print_config: bool,
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
#[command(group = clap::ArgGroup::new("where").required(true).multiple(true).args(["http", "h2c", "https", "tcp_echo", "udp_echo"]))]
struct ServeArgs {
    /// Speak HTTP/1.1 here (may be given more than once). Paths: /bytes/N gives N bytes, /status/N that status,
    /// /slow/MS an answer after so many milliseconds, /trailers a trailer; POST /echo gives the body back.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Vec<SocketAddr>,
    /// Speak HTTP/2 without TLS here, to clients that know it beforehand.
    #[arg(long, value_name = "ADDRESS:PORT")]
    h2c: Vec<SocketAddr>,
    /// Speak HTTP over TLS here, HTTP/2 where the client offers it.
    #[arg(long, value_name = "ADDRESS:PORT")]
    https: Vec<SocketAddr>,
    /// The certificate for TLS, in PEM, its chain behind it [default: one is made].
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Send back over TCP what comes.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp_echo: Vec<SocketAddr>,
    /// Send back over UDP what comes; `who?` is answered with the name.
    #[arg(long, value_name = "ADDRESS:PORT")]
    udp_echo: Vec<SocketAddr>,
    /// What the server calls itself.
    #[arg(long, default_value = "backend")]
    name: String,
    /// How many threads.
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroUsize,
}

#[derive(Debug, clap::Args)]
struct LoadArgs {
    /// `http://ADDRESS:PORT/PATH`, `https://…`, or tcp/ADDRESS:PORT for ping-pong. The answer to /bytes/N is
    /// checked to the last byte.
    target: Target,
    /// http over kept connections, http-new over a new one each, bulk (long bodies, in MB/s), handshake (full,
    /// TLS 1.3), handshake-resumed, idle (connections that are held), or ping-pong: 64 bytes over a TCP echo
    /// [default: http, or ping-pong to a tcp/ target].
    #[arg(long)]
    kind: Option<Kind>,
    /// Speak HTTP/2; without TLS, with prior knowledge.
    #[arg(long)]
    http2: bool,
    /// How many connections at a time.
    #[arg(long, value_name = "N", default_value = "16", value_parser = at_least_one)]
    connections: NonZeroUsize,
    /// How many requests at a time on each, over HTTP/2.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    streams: NonZeroUsize,
    /// So many a second, whatever the answers take; times count from when a request was due.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// For how long: 5s, 500ms.
    #[arg(long, default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// Hold idle connections until this is told to end, not for a duration.
    #[arg(long, conflicts_with = "duration")]
    hold: bool,
    /// The host to ask for, by SNI too [default: the address].
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Take only certificates that are signed by one of these (PEM) [default: any].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How many threads [default: half as many as there are processors].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<NonZeroUsize>,
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
            None if self.print_config => play::print_config(&self.options),
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
    let ServeArgs { http, h2c, https, cert, key, tcp_echo, udp_echo, name, threads } = args;
    let certificate = cert.zip(key).map(|(chain, key)| Certificate::Files { chain, key });
    let threads = Some(threads);
    limits::raise_files();
    Serving::start(Serve { name, http, h2c, https, certificate, tcp_echo, udp_echo, threads })?.wait();
    Ok(ExitCode::SUCCESS)
}

fn load(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let plain = Load::to(args.target);
    let load = Load {
        kind: args.kind.unwrap_or(plain.kind),
        version: if args.http2 { Version::Http2 } else { Version::Http1 },
        connections: args.connections,
        streams: args.streams,
        rate: args.rate,
        duration: args.duration,
        until: if args.hold { Until::Signal } else { Until::Duration },
        host: args.host,
        trust: args.ca.map_or(Trust::Anybody, Trust::Ca),
        threads: args.threads,
        target: plain.target,
    };
    if let Err(wrong) = load.check() {
        output::say(wrong.to_string());
        return Ok(ExitCode::from(WRONG));
    }
    limits::raise_files();
    if let Err(too_many) = limits::room_for(load.connections.get()) {
        output::say(too_many.to_string());
        return Ok(ExitCode::from(WRONG));
    }
    let outcome = load.run().with_context(|| format!("no load on {}", load.target.address))?;
    let text = if args.json { serde_json::to_string(&outcome)? } else { outcome.to_string() };
    output::print(text + "\n")?;
    let right = outcome.done > 0 && outcome.wrong == 0;
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A number that is not zero.
fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    let number: usize = text.parse().map_err(|_| "a whole number, such as 16".to_owned())?;
    NonZeroUsize::new(number).ok_or_else(|| "there must be at least 1".to_owned())
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
