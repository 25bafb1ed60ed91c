//! Plays the story: in namespaces where that is allowed, else in memory.

use std::env;
use std::io;
use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use super::memory::balancer;
use super::options::Options;
use crate::app::{WRONG, check, config, output};
use crate::lab::account;
use crate::lab::console::{Console, Look};
use crate::lab::error::LabError;
use crate::lab::memory::Memory;
use crate::lab::namespaces::{Namespaces, Plan};
use crate::lab::network::Network;
use crate::lab::picture;
use crate::lab::report::Report;
use crate::lab::sandbox::{self, Forbidden, Standing};
use crate::lab::story::{Call, Servers, Story, Told};
use crate::lab::topology::Topology;
use crate::packet::Family;

/// The story in JSON.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    /// `namespaces` or `memory`.
    r#where: &'static str,
    /// Why not in namespaces.
    forbidden: Option<String>,
    seconds: f64,
    tries: &'a [Told],
    /// Visits over HTTPS.
    visits: &'a [Call],
    /// The first thing that should not have happened.
    surprise: Option<&'a str>,
    balancer: &'a Report,
}

/// One performance.
struct Play<'a> {
    options: &'a Options,
    topology: Topology,
    plan: Plan,
    console: Console,
    forbidden: Option<Forbidden>,
}

const IN_MEMORY_NO_LAYER_7: &str = "It needs namespaces and a TUN device: the balancer asks backends over TCP of its own \
kernel, and in memory there is none. There, the lab shows TLS that goes through and TLS that is ended, \
requests that go where their paths say, and connections that are used again.";

const FOREIGN_NO_LAYER_7: &str = "What it shows needs the built-in servers, which say whom they see. The balancer works at \
layer 7 all the same: fourseven lab --hold --backend-cmd ... and, in the client, curl -k https://10.47.0.1/";

/// Plays it.
///
/// # Errors
///
/// The lab could not be built, or a part of it failed.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let topology = topology(options)?;
    if let Some(host) = options.shell.as_ref().filter(|host| !topology.has_host(host)) {
        let last = Topology::backend_name(options.backends);
        output::say(format_args!("no host is called `{host}`: client, balancer, backend-1 to {last} are"));
        return Ok(ExitCode::from(WRONG));
    }
    // What `run` would refuse is refused here already, before anything is built.
    let (source, checked) = config::from_flags(&options.flags(topology));
    if check::usable(source, checked).is_none() {
        return Ok(ExitCode::from(WRONG));
    }
    // Nobody's to mend, and so not a matter of where it is played.
    let plan = super::balancer::plan(options, topology)?;
    let console = if options.json { Console::silent() } else { Console::stdout() };
    let mut play = Play { options, topology, plan, console, forbidden: None };
    match play.play() {
        // Whoever reads the story has had enough of it, as `head` does.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        played => played,
    }
}

/// Prints the configuration of the balancer in namespaces.
///
/// # Errors
///
/// Standard output does not take it.
pub fn print_config(options: &Options) -> anyhow::Result<ExitCode> {
    output::print(super::balancer::shown(options, topology(options)?))?;
    Ok(ExitCode::SUCCESS)
}

fn topology(options: &Options) -> anyhow::Result<Topology> {
    Topology::new(options.backends).ok_or_else(|| anyhow::anyhow!("1 to 16 backends"))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(LabError::Output(error)) => error.kind() == io::ErrorKind::BrokenPipe,
        _ => false,
    }
}

impl Play<'_> {
    fn play(&mut self) -> anyhow::Result<ExitCode> {
        if !self.options.memory {
            match self.build() {
                Ok((standing, network)) => return Ok(self.in_namespaces(standing, network)?),
                Err(LabError::Forbidden(forbidden)) if !self.options.needs_namespaces() => {
                    self.forbidden = Some(forbidden);
                }
                // No other way of playing it would mend these.
                Err(own @ (LabError::Interrupted(_) | LabError::BackendCommand { .. })) => {
                    return Err(own.into());
                }
                Err(other) => {
                    bail!("{other}\n\nWith neither namespaces nor a TUN device: fourseven lab --memory")
                }
            }
        }
        self.in_memory()
    }

    /// Must come before anything else that this process does: a user namespace is for processes
    /// with one thread only.
    fn build(&self) -> Result<(Standing, Namespaces), LabError> {
        let standing = sandbox::enter()?;
        sandbox::check(standing)?;
        Ok((standing, Namespaces::build(&self.plan)?))
    }

    fn in_namespaces(&mut self, standing: Standing, mut network: Namespaces) -> Result<ExitCode, LabError> {
        self.title(
            "layers 4 and 7",
            match standing {
                Standing::Root => "each host a namespace",
                Standing::Rootless => "each host a namespace, without root",
            },
        )?;
        self.balancer_says(network.said())?;
        if let Some(host) = &self.options.shell {
            return self.shell(network, host);
        }
        let mut story = Story::new(self.topology);
        let told = self
            .tell(&mut network, &mut story)
            .and_then(|()| if self.options.hold { self.hold(standing, &mut network) } else { Ok(()) });
        match told {
            Ok(()) => self.end(&mut network, &story),
            Err(LabError::Interrupted(_)) if self.options.hold => self.end(&mut network, &story),
            Err(LabError::Interrupted(_)) => {
                let remark = self.console.paint(Look::Bad, "(interrupted; this is what there was so far)");
                self.console.line(format_args!("\n{remark}"))?;
                self.end(&mut network, &story).map(|_| ExitCode::FAILURE)
            }
            Err(other) => Err(other),
        }
    }

    fn in_memory(&mut self) -> anyhow::Result<ExitCode> {
        let mut network = Memory::new(self.topology, balancer(&self.options.flags(self.topology))?);
        self.title("layer 4", "IN MEMORY")?;
        if let Some(forbidden) = &self.forbidden {
            let Forbidden { what, mend } = forbidden;
            let what = self.console.paint(Look::Bad, format_args!("  Not in namespaces: {what}"));
            self.console.line(format_args!("{what}\n  To mend it: {mend}"))?;
        }
        self.console.line(
            "  In memory the balancer's core is the real one, and so is every byte of every packet; the\n  \
             hosts are userspace TCP/IP stacks (smoltcp), there is no TUN device, and times mean little.",
        )?;
        let mut story = Story::new(self.topology);
        self.tell(&mut network, &mut story)?;
        Ok(self.end(&mut network, &story)?)
    }

    fn title(&mut self, layers: &str, how: &str) -> Result<(), LabError> {
        let nat = if self.options.nat == "full" { "full NAT" } else { "DNAT" };
        let scheduler = &self.options.scheduler;
        let what = format!("fourseven lab: {layers}, {nat}, scheduler {scheduler}; {how}");
        let what = self.console.paint(Look::Heading, what);
        self.console.line(what)?;
        for line in picture::draw(self.topology) {
            self.console.line(line)?;
        }
        Ok(())
    }

    /// What the balancer is, and what device it got. What it changed in its namespace is left out.
    fn balancer_says(&mut self, said: &[String]) -> Result<(), LabError> {
        for line in said.iter().filter(|line| line.starts_with("device ") || line.starts_with("warning:")) {
            // Of a device, its kind is enough here; `run` says why as well.
            let short = line.strip_prefix("device ").and_then(|rest| rest.rsplit_once(": "));
            let short = short.map_or_else(
                || line.clone(),
                |(device, _)| format!("balancer: fourseven run -c lab.toml; device {device}"),
            );
            self.console.line(format_args!("  {short}"))?;
        }
        Ok(())
    }

    fn tell(&mut self, network: &mut dyn Network, story: &mut Story) -> Result<(), LabError> {
        let servers = if self.options.backend_cmd.is_some() { Servers::Foreign } else { Servers::BuiltIn };
        story.requests(&mut self.console, network)?;
        story.protocols(&mut self.console, network, servers)?;
        let hold = self.options.hold;
        if let Some(network) = network.layer7() {
            story.layer7(&mut self.console, network)?;
            if !hold {
                story.outlives(&mut self.console, network)?;
            }
        } else {
            let why = match servers {
                Servers::BuiltIn => IN_MEMORY_NO_LAYER_7,
                Servers::Foreign => FOREIGN_NO_LAYER_7,
            };
            story.without_layer7(&mut self.console, why)?;
        }
        if hold { Ok(()) } else { story.failures(&mut self.console, network) }
    }

    /// Returns only with an error: [`LabError::Interrupted`] is how this should end.
    fn hold(&mut self, standing: Standing, network: &mut Namespaces) -> Result<(), LabError> {
        let flags = match standing {
            Standing::Root => "-n",
            Standing::Rootless => "-U --preserve-credentials -n",
        };
        self.console.heading("The network stays until Ctrl-C. To enter a host, in another terminal:")?;
        for (name, pid) in network.processes() {
            self.console.line(format_args!("   {name:<10}  nsenter -t {pid} {flags}"))?;
        }
        let vip = self.topology.vip(Family::V4);
        self.console
            .line(format_args!("   In the client: curl http://{vip}/ or curl -k https://{vip}/api/"))?;
        self.console.line("   To end a host: kill -9 its number")?;
        loop {
            let host = network.hold()?;
            self.console.line(format_args!("   {host} is gone"))?;
        }
    }

    fn shell(&mut self, mut network: Namespaces, host: &str) -> Result<ExitCode, LabError> {
        let program = env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or_else(|| "sh".into());
        let vip = self.topology.vip(Family::V4);
        self.console.line(format_args!(
            "\nA shell in {host}; try curl http://{vip}/, curl -k https://{vip}/api/, ping {vip}. `exit` ends the lab."
        ))?;
        network.visit(host, &program)?;
        let report = network.finish()?;
        account::print(&mut self.console, self.topology, &report)?;
        Ok(ExitCode::SUCCESS)
    }

    fn end(&mut self, network: &mut dyn Network, story: &Story) -> Result<ExitCode, LabError> {
        let report = network.finish()?;
        account::print(&mut self.console, self.topology, &report)?;
        let wrong = story.surprise.clone().or_else(|| report.disagreement());
        if let Some(wrong) = &wrong {
            let wrong = self.console.paint(Look::Bad, format_args!("This should not have happened: {wrong}"));
            self.console.line(format_args!("\n{wrong}"))?;
        } else {
            self.next()?;
        }
        if self.options.json {
            let outcome = Outcome {
                r#where: if self.is_in_memory() { "memory" } else { "namespaces" },
                forbidden: self.forbidden.as_ref().map(ToString::to_string),
                seconds: self.console.elapsed().as_secs_f64(),
                tries: &story.told,
                visits: &story.calls,
                surprise: story.surprise.as_deref(),
                balancer: &report,
            };
            let json = serde_json::to_string(&outcome).map_err(|error| LabError::Output(error.into()))?;
            Console::stdout().line(json)?;
        }
        Ok(if wrong.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    const fn is_in_memory(&self) -> bool {
        self.options.memory || self.forbidden.is_some()
    }

    /// What to try next.
    fn next(&mut self) -> Result<(), LabError> {
        self.console.line("")?;
        let more = if self.is_in_memory() {
            [("--nat dnat", "the backends see the client's own address"), ("--json", "the same for programs")]
        } else {
            [
                ("--print-config", "the balancer's configuration, both layers"),
                ("--hold", "keep the network, and type in it yourself"),
            ]
        };
        for (place, (command, remark)) in more.into_iter().enumerate() {
            let word = if place == 0 { "Next" } else { "" };
            let word = self.console.paint(Look::Heading, format_args!("{word:<6}"));
            self.console.line(format_args!("{word} fourseven lab {command:<14}  {remark}"))?;
        }
        Ok(())
    }
}
