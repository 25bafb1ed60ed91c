//! `-w`: what the workers tell of their packets, and the secrets of TLS where they are wanted, in a capture file.
//!
//! ```text
//!   workers' taps ─────────▶ ┐
//!                            ├─▶ the writer's thread ─▶ pcapng
//!   rustls, with --secrets ─▶ ┘
//! ```
//!
//! A secret is told as soon as it is known, and the packets of a turn behind it; so the thread writes all secrets that
//! wait before it writes packets, and each is in the file before the packets that need it. Where the file takes no more, the
//! balancer goes on without it, and says so.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::KeyLog;
use serde::Serialize;

use crate::app::config::Config;
use crate::app::output;
use crate::capture::{About, Filter, Picture, Record, Statistics, Timestamp, Writer};
use crate::io::{Clock, Copied, Heard, Listener, Taps, Told, Wanted, taps};

/// Secrets that may be on their way: some megabytes.
const MOST_SECRETS: usize = 16_384;

/// How long packets may lie about before they are passed on to whoever reads along.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is written, and where.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// Write each packet as it came and as it left, with what was decided about it, to this pcapng file, for Wireshark,
    /// tshark and tcpdump; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Write the secrets of TLS sessions into it too. Whoever has the file can read what was said in them.
    #[arg(long, requires = "write")]
    pub secrets: bool,
    /// Call this address so in the file (may be given more than once).
    #[arg(long, value_name = "ADDRESS=NAME", requires = "write", value_parser = name)]
    pub name: Vec<(IpAddr, String)>,
    /// Write only packets that pass this filter, as they came or as they left: words of tcpdump's language (host, net, port,
    /// portrange, proto, tcp, udp, icmp, ip, ip6, src, dst; and, or, not).
    #[arg(value_name = "FILTER", requires = "write")]
    pub filter: Vec<String>,
}

fn name(text: &str) -> Result<(IpAddr, String), String> {
    let pair = text.split_once('=').and_then(|(address, name)| Some((address.parse().ok()?, name)));
    match pair {
        Some((address, name)) if !name.is_empty() => Ok((address, name.to_owned())),
        _ => Err("an address and a name, such as 10.0.0.9=client".into()),
    }
}

impl Options {
    /// The filter, where there is one.
    ///
    /// # Errors
    /// When the words are none.
    pub fn wanted(&self) -> Result<Option<Wanted>, crate::capture::FilterError> {
        let filter: Filter = self.filter.join(" ").parse()?;
        let wanted = move |packet: &[u8]| filter.passes(packet);
        Ok(if self.filter.is_empty() { None } else { Some(Arc::new(wanted)) })
    }

    /// Whether the file goes to standard output, where nothing else may go then.
    pub fn takes_stdout(&self) -> bool {
        self.write.as_deref() == Some(Path::new("-"))
    }
}

/// A file that has been begun.
pub struct Prepared {
    file: PathBuf,
    taps: Taps,
    secrets: Option<Arc<Secrets>>,
    body: Box<dyn FnOnce() -> Written + Send>,
}

/// A file that is being written.
pub struct Recording {
    file: PathBuf,
    taps: Taps,
    secrets: Option<Arc<Secrets>>,
    thread: JoinHandle<Written>,
}

/// What the writer's thread leaves behind.
struct Written {
    /// `None` where the file takes no more.
    writer: Option<Writer<Box<dyn Write + Send>>>,
    packets: u64,
    lost: u64,
    problem: Option<String>,
}

/// What a file came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The file.
    pub file: String,
    /// Packets that are in it, each once, however often it was looked at. Where it takes no more, some of the last are not.
    pub packets: u64,
    /// Packets that are not in it because the writer did not keep up, or the file took no more.
    pub lost: u64,
    /// TLS secrets that are not in it for the same reason.
    pub secrets_lost: u64,
    /// Why it took no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Prepared {
    /// Makes the file, where one is wanted. Where there are rights to give up, they may be needed for this.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(options: &Options, config: &Config, clock: Clock) -> anyhow::Result<Option<Self>> {
        let Some(file) = options.write.clone() else { return Ok(None) };
        let wanted = options.wanted()?;
        let out = create(&file, options.secrets)?;
        let about = About { comment: comment(config, options), names: names(config, &options.name) };
        let writer = Writer::new(out, &about).with_context(|| format!("cannot write {}", file.display()))?;
        let (taps, listener) = taps(wanted);
        let (sender, receiver) = sync_channel(MOST_SECRETS);
        let secrets = options.secrets.then(|| Arc::new(Secrets { sender, lost: AtomicU64::new(0) }));
        if options.secrets {
            output::say(format_args!(
                "warning: --secrets: THE SECRETS OF ALL TLS SESSIONS, to clients and to backends, are written to {}. \
                 Whoever has that file can read them",
                file.display()
            ));
        }
        let body = Box::new(move || write(&listener, &receiver, writer, clock));
        Ok(Some(Self { file, taps, secrets, body }))
    }

    /// Who is to be told the secrets of TLS sessions.
    pub fn key_log(&self) -> Option<Arc<dyn KeyLog>> {
        self.secrets.clone().map(|secrets| secrets as Arc<dyn KeyLog>)
    }

    /// Starts the writer.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(self) -> anyhow::Result<Recording> {
        let Self { file, taps, secrets, body } = self;
        let thread = thread::Builder::new().name("capture".into()).spawn(body);
        let thread = thread.context("cannot start the writer of the capture")?;
        Ok(Recording { file, taps, secrets, thread })
    }
}

impl Recording {
    /// What makes the workers' taps.
    pub fn taps(&self) -> Taps {
        self.taps.clone()
    }

    /// Ends the file. The workers must be gone, and `received` packets have come to them.
    pub fn finish(self, received: u64) -> Summary {
        let Self { file, taps, secrets, thread } = self;
        drop(taps);
        let mut written = thread.join().unwrap_or_else(|_| Written {
            writer: None,
            packets: 0,
            lost: 0,
            problem: Some("its writer failed".into()),
        });
        if let Some(writer) = written.writer {
            let statistics = Statistics { received, lost: written.lost };
            if let Err(error) = writer.finish(statistics) {
                written.problem = Some(error.to_string());
            }
        }
        Summary {
            file: file.display().to_string(),
            packets: written.packets,
            lost: written.lost,
            secrets_lost: secrets.map_or(0, |secrets| secrets.lost.load(Relaxed)),
            problem: written.problem,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, packets, lost, secrets_lost, problem } = self;
        write!(f, "capture  {packets} packets in {file}")?;
        if *lost > 0 {
            write!(f, ", {lost} LOST")?;
        }
        if *secrets_lost > 0 {
            write!(f, ", {secrets_lost} TLS secrets LOST")?;
        }
        match problem {
            Some(problem) => write!(f, ": it takes no more: {problem}"),
            None if lost + secrets_lost > 0 => f.write_str(": the writer did not keep up"),
            None => Ok(()),
        }
    }
}

/// Makes the file, readable for its owner only where there are secrets in it.
fn create(file: &Path, secrets: bool) -> anyhow::Result<Box<dyn Write + Send>> {
    if file == Path::new("-") {
        if io::IsTerminal::is_terminal(&io::stdout()) {
            bail!("a capture is nothing for a terminal; give -w a file, or let standard output be a pipe");
        }
        return Ok(Box::new(io::stdout()));
    }
    let made = (|| {
        let mut how = File::options();
        how.write(true).create(true).truncate(true);
        if secrets {
            how.mode(0o600);
        }
        let made = how.open(file)?;
        if secrets && made.metadata()?.is_file() {
            // It may have been there before.
            made.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        io::Result::Ok(made)
    })();
    Ok(Box::new(made.with_context(|| format!("cannot write {}", file.display()))?))
}

/// What the file says of itself.
fn comment(config: &Config, options: &Options) -> String {
    let mut comment = format!(
        "written live by fourseven {} on {}; each packet as it came and as it left, with one packet id",
        env!("CARGO_PKG_VERSION"),
        config.tun.name
    );
    if !options.filter.is_empty() {
        comment += "; filter: ";
        comment += &options.filter.join(" ");
    }
    if !config.plan.sites.is_empty() {
        comment += "; the connections of layer 7 to backends are the kernel's and not in this file";
    }
    comment
}

/// Names for addresses: those that are given, then those that the configuration has.
fn names(config: &Config, given: &[(IpAddr, String)]) -> Vec<(IpAddr, String)> {
    let mut names = given.to_vec();
    let mut add = |address: IpAddr, name: String| {
        if names.iter().all(|(known, _)| *known != address) {
            names.push((address, name));
        }
    };
    for service in &config.services {
        for listen in &service.listen {
            add(listen.endpoint.address.into(), service.name.clone());
        }
        for (number, backend) in (1..).zip(&service.backends) {
            add(backend.endpoint.address.into(), format!("{}-{number}", service.name));
        }
    }
    for site in &config.plan.sites {
        for listen in &site.listen {
            add(listen.address.into(), site.name.clone());
        }
    }
    for group in &config.plan.groups {
        for (number, member) in (1..).zip(&group.members) {
            add(member.endpoint.address.into(), format!("{}-{number}", group.name));
        }
    }
    // A network of many addresses has no name.
    for local in config.tun.local.iter().filter(|local| local.prefix_len() == local.max_prefix_len()) {
        add(local.addr(), "balancer".into());
    }
    names
}

/// The writer's thread.
fn write(
    listener: &Listener,
    secrets: &Receiver<String>,
    mut writer: Writer<Box<dyn Write + Send>>,
    clock: Clock,
) -> Written {
    let (mut packets, mut lost) = (0, 0);
    let mut problem: Option<io::Error> = None;
    let mut idle = false;
    loop {
        // Only who has nothing to do passes on what is less than a batch.
        let told = match listener.hear(if idle { PATIENCE } else { Duration::ZERO }) {
            Heard::End => break,
            Heard::Nothing => Vec::new(),
            Heard::Batch(told) => told,
        };
        idle = told.is_empty();
        let count = told.len() as u64;
        if problem.is_some() {
            lost += count;
            continue;
        }
        let written = write_secrets(&mut writer, secrets)
            .and_then(|()| told.iter().try_for_each(|told| write_packet(&mut writer, told, clock)))
            .and_then(|()| if idle { writer.flush() } else { Ok(()) });
        match written {
            Ok(()) => packets += count,
            Err(error) => {
                tracing::warn!("the capture file takes no more: {error}");
                lost += count;
                problem = Some(error);
            }
        }
    }
    if problem.is_none() {
        problem = write_secrets(&mut writer, secrets).err();
    }
    let lost = lost + listener.lost();
    let writer = problem.is_none().then_some(writer);
    Written { writer, packets, lost, problem: problem.map(|error| error.to_string()) }
}

fn write_secrets<W: Write>(writer: &mut Writer<W>, secrets: &Receiver<String>) -> io::Result<()> {
    // All that wait make one block.
    let lines: String = secrets.try_iter().take(MOST_SECRETS).collect();
    if lines.is_empty() { Ok(()) } else { writer.secrets(&lines) }
}

fn write_packet<W: Write>(writer: &mut Writer<W>, told: &Told, clock: Clock) -> io::Result<()> {
    fn picture(copied: &Copied) -> Picture<'_> {
        let original_length = u32::try_from(copied.bytes.len()).unwrap_or(u32::MAX);
        Picture { bytes: &copied.bytes, original_length, offload: copied.offload }
    }
    writer.record(&Record {
        time: Timestamp(clock.started_at().saturating_add(told.time.as_nanos())),
        id: told.id,
        came: told.came.as_ref().map(picture),
        left: told.left.as_ref().map(picture),
        decision: told.decision.clone(),
    })
}

/// Hears the secrets of TLS sessions.
#[derive(Debug)]
struct Secrets {
    sender: SyncSender<String>,
    lost: AtomicU64,
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        use std::fmt::Write as _;
        let mut line = String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
        line.push_str(label);
        for bytes in [client_random, secret] {
            line.push(' ');
            for byte in bytes {
                // Nothing that is written to a string fails.
                let _ = write!(line, "{byte:02x}");
            }
        }
        line.push('\n');
        if self.sender.try_send(line).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// Tells several.
#[derive(Debug)]
pub struct Both(pub Arc<dyn KeyLog>, pub Arc<dyn KeyLog>);

impl KeyLog for Both {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.0.log(label, client_random, secret);
        self.1.log(label, client_random, secret);
    }
}
