//! `fourseven run`: the balancer.
//!
//! ```text
//!   open the queues ─▶ build the cores ─▶ watch signals ─▶ configure the host ─▶ "ready:" ─▶ run the workers
//!                                                                                               │ a signal, or
//!   exit status ◀─ the report ◀─ take back what was configured ◀────────────────────────────────┘ a failure
//! ```
//!
//! Signals are watched before anything is changed on the host, so that no Ctrl-C can leave it changed. The
//! report is printed in any case, also where a worker failed: it may tell why.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use sd_notify::NotifyState;

use crate::app::config::{self, Config, Flags, counted};
use crate::app::cores::{Cores, device_traits, joined};
use crate::app::layer7::Layer7;
use crate::app::record::{self, Prepared, Recording};
use crate::app::report::Report;
use crate::app::{WRONG, check, output, privilege};
use crate::balance::ServiceSpec;
use crate::datapath::Nat;
use crate::io::host::{Host, HostPlan};
use crate::io::{
    self, Clock, IoError, Opened, SignalWatch, Stop, TunRequest, WorkerOptions, run_with_tasks, run_workers,
};
use crate::l7::spec::{LogTarget, Plan, RouteSpec, SiteSpec, UpstreamMode};

const AFTER: &str = "\
It needs CAP_NET_ADMIN in the namespace it is started in, and /dev/net/tun. Ctrl-C ends it: it takes
back what it changed on the host, and prints its report. SIGUSR1 prints the report and goes on.

Examples:
  sudo fourseven run -c fourseven.toml
  sudo fourseven run --mode l4 --vip tcp/10.47.0.1:80 \\
      --backend 10.47.2.2:8080 --backend 10.47.2.3:8080
  sudo fourseven run --mode l7 --vip tcp/10.47.0.1:443 --tls auto \\
      --backend 10.47.2.2:8080 --backend 10.47.2.3:8080
  fourseven run --print-config --vip tcp/10.47.0.1:80 --backend 10.47.2.2:8080 > fourseven.toml";

/// What `fourseven run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub struct Args {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = [
        "mode", "vip", "backend", "nat", "tls", "upstreams", "scheduler", "local", "io", "queues", "tun",
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
    #[command(flatten)]
    record: record::Options,
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
        if let Err(mistake) = self.record.wanted() {
            output::say(mistake);
            return Ok(ExitCode::from(WRONG));
        }
        balance(&config, if self.json { Form::Json } else { Form::Tables }, &self.record)
    }
}

const NOTHING_TO_BALANCE: &str = "\
fourseven run: nothing says what to balance; give a file, or flags:

  fourseven run -c fourseven.toml
  fourseven run --mode l4 --vip tcp/10.47.0.1:80 --backend 10.47.2.2:8080 --backend 10.47.2.3:8080

To see it work without any preparation: fourseven lab";

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Tables,
    Json,
}

impl Form {
    fn of(self, report: &Report) -> anyhow::Result<String> {
        Ok(match self {
            Self::Tables => report.to_string(),
            Self::Json => report.to_json()? + "\n",
        })
    }
}

/// Balances until a signal ends it.
fn balance(config: &Config, form: Form, record: &record::Options) -> anyhow::Result<ExitCode> {
    if record.takes_stdout() && config.plan.sites.iter().any(logs_to_stdout) {
        anyhow::bail!("standard output can take the capture or an access log: name a file for one of them");
    }
    let tun = &config.tun;
    let request = TunRequest { name: tun.name.clone(), io: tun.io, queues: tun.queues };
    let Opened { name, queues, kind, why, warnings } = io::open(&request).map_err(advised)?;
    output::say(format_args!("device {name}: {kind}, {}: {why}", counted((queues.len(), "queue"))));
    for warning in warnings {
        output::say(format_args!("warning: {warning}"));
    }
    let Cores { translators, mut account } = Cores::build(config, queues.len())?;
    let clock = Clock::start();
    let recording = Prepared::new(record, config, clock)?;
    let stop = Stop::new();
    let layer7 = if config.plan.sites.is_empty() {
        None
    } else {
        let device = device_traits(tun.mtu, kind);
        let layer7 =
            Layer7::build(config, device, queues.len(), recording.as_ref().and_then(Prepared::key_log))?;
        small_pages();
        let counted = layer7.clone();
        account = account.with_layer7(move || counted.report());
        Some(layer7)
    };
    // All is open, and no thread has been started yet.
    if let Err(problem) = privilege::keep_network_admin() {
        output::say(format_args!("warning: cannot give up the rights that are not needed: {problem}"));
    }
    let recording = recording.map(Prepared::start).transpose()?;
    if let Some(layer7) = &layer7 {
        layer7.watch_certificates(&stop).context("cannot watch the certificates")?;
        layer7.logs().start().context("cannot write access logs")?;
    }
    let logs = layer7.as_ref().map(|layer7| layer7.logs().clone());
    let signals = {
        let account = account.clone();
        SignalWatch::start(stop.clone(), move || match form.of(&account.report().in_between()) {
            Ok(report) => output::say(report.trim_end()),
            Err(error) => output::complain(&error),
        })?
    };
    let host = if tun.configure { Some(configure(config, &name).map_err(advised)?) } else { None };
    for change in host.iter().flat_map(Host::changes) {
        output::say(format_args!("host: {change}"));
    }
    for warning in host.iter().flat_map(Host::warnings) {
        output::say(format_args!("warning: {warning}"));
    }
    for service in &config.services {
        output::say(service_line(service));
    }
    for site in &config.plan.sites {
        output::say(site_line(site, &config.plan));
    }
    output::say(format_args!("ready: {name} is balancing; Ctrl-C ends it"));
    tell_manager(NotifyState::Ready);
    let counters = account.counters();
    let options = WorkerOptions { taps: recording.as_ref().map(Recording::taps), ..Default::default() };
    let ended = match layer7 {
        None => run_workers(translators, queues, counters, clock, &stop, &options).map(drop),
        Some(layer7) => {
            let builders = joined(translators, config, move |worker| layer7.proxy(worker));
            run_with_tasks(builders, queues, counters, clock, &stop, &options)
        }
    };
    tell_manager(NotifyState::Stopping);
    for problem in host.into_iter().flat_map(Host::undo) {
        output::say(format_args!("warning: {problem}"));
    }
    drop((signals, options));
    // Behind the last request, and before the report, which may go where lines go.
    logs.unwrap_or_default().finish();
    let mut report = account.report();
    report.capture = recording.map(|recording| recording.finish(report.packets.received));
    let printed = form.of(&report).and_then(|text| {
        // What reads the capture from standard output can do nothing with a report behind it.
        if record.takes_stdout() {
            output::say(text.trim_end());
            return Ok(());
        }
        output::print(text)
    });
    ended.map_err(advised)?;
    printed.map(|()| ExitCode::SUCCESS)
}

/// Tells the service manager, where one has started this.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot tell the service manager how it stands: {error}");
    }
}

/// Keeps the kernel from backing memory by huge pages.
///
/// A connection's rings are large, are mostly untouched, and go back when it is idle. Where the allocator gets huge
/// pages, a byte in a ring takes 2 MB, and what was given back is not seen to be free: ten thousand idle connections then
/// took 60 KB each instead of 34, and bulk no less of the processor. Layer 4 alone keeps them, for its table.
fn small_pages() {
    // A kernel that does not know of them need not be told.
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// Makes the host send the packets to the device.
fn configure(config: &Config, device: &str) -> Result<Host, IoError> {
    let mut vips: Vec<IpAddr> = config
        .services
        .iter()
        .flat_map(|service| &service.listen)
        .map(|listen| listen.endpoint)
        .chain(config.plan.sites.iter().flat_map(|site| &site.listen).copied())
        .map(|endpoint| endpoint.address.into())
        .collect();
    let mut dnat_backends: Vec<IpAddr> = config
        .services
        .iter()
        .filter(|service| service.nat == Nat::Dnat)
        .flat_map(|service| &service.backends)
        .map(|backend| backend.endpoint.address.into())
        .collect();
    for addresses in [&mut vips, &mut dnat_backends] {
        addresses.sort_unstable();
        addresses.dedup();
    }
    Host::configure(&HostPlan {
        mtu: Some(config.tun.mtu.into()),
        device: device.to_owned(),
        vips,
        locals: config.tun.local.clone(),
        dnat_backends,
    })
}

/// One service on one line.
fn service_line(service: &ServiceSpec) -> String {
    let listens: Vec<_> = service.listen.iter().map(ToString::to_string).collect();
    let nat = match service.nat {
        Nat::Full => "full NAT",
        Nat::Dnat => "DNAT",
    };
    let backends = counted((service.backends.len(), "backend"));
    format!("service {}: {} to {backends}, {nat}, {}", service.name, listens.join(" "), service.scheduler)
}

/// Whether a site's requests are logged to where results go.
fn logs_to_stdout(site: &SiteSpec) -> bool {
    site.access_log.as_ref().is_some_and(|log| log.target == LogTarget::Stdout)
}

/// One site on one line.
fn site_line(site: &SiteSpec, plan: &Plan) -> String {
    let listens: Vec<_> = site.listen.iter().map(|listen| format!("tcp/{listen}")).collect();
    let groups: BTreeSet<_> = site.routes.iter().flat_map(RouteSpec::groups).map(|group| group.0).collect();
    let backends =
        groups.iter().filter_map(|&group| plan.groups.get(group)).map(|group| group.members.len()).sum();
    let tls = if site.tls.is_some() { "TLS ended here" } else { "cleartext" };
    let upstreams = match site.upstreams {
        UpstreamMode::Pool => "pooled upstreams",
        UpstreamMode::New => "a new upstream for each request",
    };
    let (routes, backends) = (counted((site.routes.len(), "route")), counted((backends, "backend")));
    format!("site {}: {} by {routes} to {backends}, {tls}, {upstreams}", site.name, listens.join(" "))
}

/// The error, with what can be done about it where that is not a matter of the configuration.
fn advised(error: IoError) -> anyhow::Error {
    let denied = |source: &std::io::Error| source.kind() == std::io::ErrorKind::PermissionDenied;
    let advice = match &error {
        IoError::NoTunNode | IoError::NotTheTunNode => NO_NODE,
        IoError::NodeNotPermitted { .. } => NODE_DENIED,
        IoError::DeviceNotPermitted { .. } => DEVICE_DENIED,
        IoError::Netlink { source, .. } | IoError::Sysctl { source, .. } if denied(source) => HOST_DENIED,
        IoError::NameTaken { .. } => "To take another name: `--tun NAME`, or `name` under `[tun]`",
        _ => return error.into(),
    };
    anyhow!("{error}\n\n{advice}")
}

const NO_NODE: &str = "\
To see it work, with nothing to prepare:  fourseven lab";

const NODE_DENIED: &str = "\
To balance here, run it as root:          sudo fourseven run ...
To let everybody make such devices:       sudo chmod 0666 /dev/net/tun (each still needs rights in its network)
In a container, as root:                  start it with --device /dev/net/tun
To see it work, with nothing to prepare:  fourseven lab";

const DEVICE_DENIED: &str = "\
To balance here, run it as root:          sudo fourseven run ...
In a network of its own, without root:    unshare --user --map-root-user --net fourseven run ...
In a container, as root:                  start it with --cap-add NET_ADMIN
To see it work, with nothing to prepare:  fourseven lab";

const HOST_DENIED: &str = "\
To balance here, run it as root:          sudo fourseven run ...
To set up the host by yourself:           fourseven run --no-configure ...
To see it work, with nothing to prepare:  fourseven lab";
