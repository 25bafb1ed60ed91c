//! Plays the story: in namespaces where that is allowed, else in memory.

use std::env;
use std::io;
use std::process::ExitCode;

use serde::Serialize;

use crate::lab::account;
use crate::lab::console::{Console, Look};
use crate::lab::error::LabError;
use crate::lab::namespaces::{Namespaces, Plan};
use crate::lab::network::Network;
use crate::lab::picture;
use crate::lab::report::Report;
use crate::lab::sandbox::{self, Forbidden, Standing};
use crate::lab::story::{Servers, Story, Told};
use crate::lab::topology::{self, Topology};
use crate::packet::Family;

/// How the story goes.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    /// How many backends, 1 to 16.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    backends: u8,
    /// full: both ends of a packet are rewritten; dnat: the backend sees the client's own address.
    #[arg(long, default_value = "full", value_parser = ["full", "dnat"])]
    nat: String,
    /// How a backend is picked for a new flow.
    #[arg(long, default_value = "rr", value_parser = ["rr", "wrr", "lc", "wlc", "sh", "mh", "p2c"])]
    scheduler: String,
    /// How packets come from the TUN device.
    #[arg(long, default_value = "auto", value_parser = ["auto", "offload", "plain"])]
    io: String,
    /// How many TUN queues, with a worker each.
    #[arg(long, value_name = "N")]
    queues: Option<u16>,
    /// Run this shell command as each backend, in place of the built-in servers: HTTP on `FOURSEVEN_PORT`.
    #[arg(long, value_name = "COMMAND")]
    backend_cmd: Option<String>,
    /// Leave the backends alone, and keep the network until Ctrl-C.
    #[arg(long)]
    hold: bool,
    /// No story: a prompt inside the client, the balancer or a backend.
    #[arg(long, value_name = "HOST", conflicts_with_all = ["hold", "json", "memory"])]
    shell: Option<String>,
    /// Print one JSON object at the end and nothing else.
    #[arg(long)]
    json: bool,
    /// Play in memory, with userspace TCP at both ends, even where namespaces are allowed.
    #[arg(long, conflicts_with_all = ["hold", "backend_cmd"])]
    memory: bool,
}

/// The story in JSON.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    /// `namespaces` or `memory`.
    r#where: &'static str,
    /// Why not in namespaces.
    forbidden: Option<String>,
    seconds: f64,
    tries: &'a [Told],
    surprise: Option<&'a str>,
    balancer: Option<&'a Report>,
}

/// Plays it.
///
/// # Errors
///
/// The lab could not be built, or a part of it failed.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let topology = Topology::new(options.backends).ok_or_else(|| anyhow::anyhow!("1 to 16 backends"))?;
    let mut console = if options.json { Console::silent() } else { Console::stdout() };
    match play(options, topology, &mut console) {
        // Whoever reads the story has had enough of it, as `head` does.
        Err(LabError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        played => Ok(played?),
    }
}

fn play(options: &Options, topology: Topology, console: &mut Console) -> Result<ExitCode, LabError> {
    let forbidden = if options.memory {
        None
    } else {
        match build(options, topology) {
            Ok((standing, mut network)) => return live(options, topology, console, standing, &mut network),
            Err(LabError::Forbidden(forbidden)) => Some(forbidden),
            Err(other) => return Err(other),
        }
    };
    in_memory(options, topology, console, forbidden)
}

/// Must come before anything else that this process does: a user namespace is for processes with
/// one thread only.
fn build(options: &Options, topology: Topology) -> Result<(Standing, Namespaces), LabError> {
    let standing = sandbox::enter()?;
    sandbox::check(standing)?;
    let plan = Plan {
        topology,
        balancer: balancer_arguments(options, topology),
        backend_command: options.backend_cmd.clone(),
    };
    Ok((standing, Namespaces::build(&plan)?))
}

/// The command that a user could type in the balancer's namespace.
fn balancer_arguments(options: &Options, topology: Topology) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["run", "--mode", "l4", "--tun", topology::TUN, "--json"].map(Into::into).into();
    let mut add = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
    add("--nat", options.nat.clone());
    add("--scheduler", options.scheduler.clone());
    add("--io", options.io.clone());
    if let Some(queues) = options.queues {
        add("--queues", queues.to_string());
    }
    for family in [Family::V4, Family::V6] {
        add("--local", topology.local(family).to_string());
    }
    for (protocol, at) in topology.vips() {
        add("--vip", format!("{protocol}/{at}"));
    }
    for endpoint in topology.backend_endpoints() {
        add("--backend", endpoint.to_string());
    }
    arguments
}

fn live(
    options: &Options,
    topology: Topology,
    console: &mut Console,
    standing: Standing,
    network: &mut Namespaces,
) -> Result<ExitCode, LabError> {
    let how = match standing {
        Standing::Root => "each host a network namespace",
        Standing::Rootless => "each host a network namespace, without root",
    };
    title(console, options, topology, how)?;
    for line in network.said() {
        console.line(format_args!("  {line}"))?;
    }
    if let Some(host) = &options.shell {
        return shell(topology, console, network, host);
    }
    let mut story = Story::new(topology);
    let servers = if options.backend_cmd.is_some() { Servers::Foreign } else { Servers::BuiltIn };
    let told = tell(options, console, network, &mut story, servers)
        .and_then(|()| if options.hold { hold(console, standing, network) } else { Ok(()) });
    let interrupted = match told {
        Ok(()) => false,
        Err(LabError::Interrupted(_)) => true,
        Err(other) => return Err(other),
    };
    let early = interrupted && !options.hold;
    if early {
        console.line(console.paint(Look::Bad, "\n(interrupted: this is what there was so far)"))?;
    }
    end(options, topology, console, network, &story, None)
        .map(|code| if early { ExitCode::FAILURE } else { code })
}

fn in_memory(
    options: &Options,
    topology: Topology,
    console: &mut Console,
    forbidden: Option<Forbidden>,
) -> Result<ExitCode, LabError> {
    let _ = (options, topology, console);
    Err(forbidden.map_or_else(
        || LabError::Failed { host: "memory".into(), why: "not built yet".into() },
        LabError::Forbidden,
    ))
}

fn title(console: &mut Console, options: &Options, topology: Topology, how: &str) -> Result<(), LabError> {
    let nat = if options.nat == "full" { "full NAT" } else { "DNAT" };
    let what = format!("fourseven lab: layer 4, {nat}, scheduler {}; {how}", options.scheduler);
    console.line(console.paint(Look::Heading, what))?;
    console.line("")?;
    for line in picture::draw(topology) {
        console.line(line)?;
    }
    console.line("")
}

fn tell(
    options: &Options,
    console: &mut Console,
    network: &mut dyn Network,
    story: &mut Story,
    servers: Servers,
) -> Result<(), LabError> {
    story.requests(console, network)?;
    story.protocols(console, network, servers)?;
    if !options.hold {
        story.failures(console, network)?;
    }
    story.nothing(console, network)
}

fn hold(console: &mut Console, standing: Standing, network: &mut Namespaces) -> Result<(), LabError> {
    let flags = match standing {
        Standing::Root => "-n",
        Standing::Rootless => "-U --preserve-credentials -n",
    };
    console.heading("The network stays until Ctrl-C. To enter a host, in another terminal:")?;
    for (name, pid) in network.processes() {
        console.line(format_args!("   {name:<10}  nsenter -t {pid} {flags}"))?;
    }
    console.line("   In the client: curl http://10.47.0.1/    To end a backend: kill -9 its number")?;
    match network.hold() {
        Ok(never) => match never {},
        Err(error) => Err(error),
    }
}

fn shell(
    topology: Topology,
    console: &mut Console,
    network: &mut Namespaces,
    host: &str,
) -> Result<ExitCode, LabError> {
    let program = env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or_else(|| "sh".into());
    let vip = topology.vip(Family::V4);
    console.line(format_args!(
        "  A shell in {host}; try curl http://{vip}/, ping {vip}, ip route. `exit` ends the lab."
    ))?;
    network.visit(host, &program)?;
    let report = network.finish()?;
    account::print(console, topology, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn end(
    options: &Options,
    topology: Topology,
    console: &mut Console,
    network: &mut dyn Network,
    story: &Story,
    forbidden: Option<&Forbidden>,
) -> Result<ExitCode, LabError> {
    let report = network.finish()?;
    account::print(console, topology, &report)?;
    let wrong = story.surprise.clone().or_else(|| report.disagreement());
    if let Some(wrong) = &wrong {
        console.line(console.paint(Look::Bad, format_args!("\nThis should not have happened: {wrong}")))?;
    } else {
        next(console, options)?;
    }
    if options.json {
        let outcome = Outcome {
            r#where: if forbidden.is_some() || options.memory { "memory" } else { "namespaces" },
            forbidden: forbidden.map(ToString::to_string),
            seconds: console.elapsed().as_secs_f64(),
            tries: &story.told,
            surprise: story.surprise.as_deref(),
            balancer: Some(&report),
        };
        let json = serde_json::to_string(&outcome).map_err(|error| LabError::Output(error.into()))?;
        Console::stdout().line(json)?;
    }
    Ok(if wrong.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn next(console: &mut Console, options: &Options) -> Result<(), LabError> {
    console.heading("Next")?;
    if options.nat == "full" {
        console.line("   fourseven lab --nat dnat         the backends see the client's own address")?;
    }
    console.line("   fourseven lab --shell client     a prompt in the client: curl, ping, tcpdump")?;
    console.line("   fourseven lab --hold             keep the network, and end backends yourself")
}
