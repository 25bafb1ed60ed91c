//! The flags of `run` that say what a file would say.
//!
//! They are laid out as one line of text, the command that was given, so that a mistake
//! can point into it as it points into a file.

use std::path::Path;

use toml::Spanned;

use super::Draft;
use super::backends::{self, BackendDraft};
use super::mistake::{Mistake, Mistakes};
use super::source::{Source, Span};
use super::{service, tls, tun};

/// What is balanced, from flags alone.
#[expect(clippy::doc_markdown, reason = "these comments are the help that is printed")]
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Without a file")]
pub struct Flags {
    /// Where the balancer works: l4 rewrites each packet (the default), l7 answers clients itself and asks
    /// a backend for each request.
    #[arg(long, value_name = "l4|l7")]
    pub mode: Option<String>,
    /// An address that clients use; may be given again.
    #[arg(
        long,
        value_name = "PROTO/ADDRESS:PORT",
        long_help = "\
        An address that clients use; may be given again.\n\n\
        Written PROTOCOL/ADDRESS:PORT, such as tcp/10.47.0.1:80 or udp/[fd47::1]:53."
    )]
    pub vip: Vec<String>,
    /// Where the work is done; may be given again.
    ///
    /// Written ADDRESS:PORT, or ADDRESS:PORT*WEIGHT (in quotes, for the shell) for a larger share of
    /// new flows or requests.
    #[arg(long, value_name = "ADDRESS:PORT[*WEIGHT]")]
    pub backend: Vec<String>,
    /// At layer 4, what is rewritten: full (both ends; the default) or dnat (the backend sees the client).
    #[arg(long, value_name = "full|dnat")]
    pub nat: Option<String>,
    /// At layer 7, a certificate to end TLS with; may be given again, for other hosts.
    ///
    /// Written CHAIN,KEY, two PEM files, or auto for one that is made at the start and signed by nobody.
    /// Without it, HTTP comes in the clear.
    #[arg(long, value_name = "auto|CHAIN,KEY")]
    pub tls: Vec<String>,
    /// At layer 7, whether connections to backends are kept for later requests: pool (the default) or new.
    #[arg(long, value_name = "pool|new")]
    pub upstreams: Option<String>,
    /// Who gets the next flow, or request: rr (the default), wrr, lc, wlc, sh, mh or p2c.
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<String>,
    /// At layer 4, a prefix that full NAT sends from; may be given again [default: 10.47.3.0/24 and fd47:3::/64].
    #[arg(long, value_name = "PREFIX")]
    pub local: Vec<String>,
    /// The kind of queue: auto (the best there is; the default), offload or plain.
    #[arg(long, value_name = "auto|offload|plain")]
    pub io: Option<String>,
    /// How many queues, each with a thread of its own [default: 1].
    #[arg(long, value_name = "N")]
    pub queues: Option<String>,
    /// What the TUN device is called [default: fs0].
    #[arg(long, value_name = "NAME")]
    pub tun: Option<String>,
}

impl Flags {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The command line as a source, and what it says.
    pub(super) fn read(&self, mistakes: &mut Mistakes) -> (Source, Draft) {
        let mut line = Line("fourseven run".to_owned());
        let mode = line.one("--mode", self.mode.as_ref());
        let vips = line.all("--vip", &self.vip);
        let backends = line.all("--backend", &self.backend);
        let nat = line.one("--nat", self.nat.as_ref());
        let tls = line.all("--tls", &self.tls);
        let upstreams = line.one("--upstreams", self.upstreams.as_ref());
        let scheduler = line.one("--scheduler", self.scheduler.as_ref());
        let local = line.all("--local", &self.local);
        let io = line.one("--io", self.io.as_ref());
        let queues = line.one("--queues", self.queues.as_ref()).and_then(|text| {
            let number = text.get_ref().trim().parse::<i128>().map_err(|_| {
                Mistake::new(text.span(), "`--queues` must be a number").help("write `--queues 2`")
            });
            number
                .map_err(|mistake| mistakes.add(mistake))
                .ok()
                .map(|number| Spanned::new(text.span(), number))
        });
        let name = line.one("--tun", self.tun.as_ref());
        let end = line.0.len()..line.0.len();
        let mut damaged = Vec::new();
        let mut noting = |before: usize, now: usize, key| damaged.extend((now > before).then_some(key));
        let before = mistakes.count();
        let backends = drafts(mistakes, backends, BackendDraft::from_flag);
        noting(before, mistakes.count(), "backends");
        let before = mistakes.count();
        let tls_at = tls.first().map(Spanned::span);
        let certificates = drafts(mistakes, tls, tls::Certificate::from_flag);
        noting(before, mistakes.count(), "tls");
        let list = |all: Vec<BackendDraft>| backends::Draft::List(Spanned::new(end.clone(), all));
        let of_layer_7 = [("upstreams", upstreams.as_ref().map(Spanned::span)), ("tls", tls_at.clone())];
        let layer_7 = mode
            .as_ref()
            .map_or(of_layer_7.iter().any(|(_, at)| at.is_some()), |mode| mode.get_ref() == "l7");
        if let (true, Some(first)) = (layer_7, local.first()) {
            mistakes.add(
                Mistake::new(first.span(), "`--local` is for layer 4, and this service is for layer 7")
                    .help("leave it out: layer 7 has no NAT, and asks backends from an address of this host"),
            );
        }
        let service = service::Draft {
            at: end.clone(),
            name: Some(Spanned::new(end.clone(), "service".to_owned())),
            mode,
            listen: Some(Spanned::new(end.clone(), vips)),
            nat,
            scheduler,
            backends: (!backends.is_empty()).then(|| list(backends)),
            upstreams,
            tls: tls_at.filter(|_| !certificates.is_empty()).map(|at| Spanned::new(at, certificates)),
            of_layer_7: of_layer_7.into_iter().filter_map(|(key, at)| Some((key, at?))).collect(),
            damaged,
            ..service::Draft::default()
        };
        let local = (!local.is_empty()).then(|| Spanned::new(end.clone(), local));
        let tun = tun::Draft { name, io, queues, local, ..tun::Draft::default() };
        let source = Source::new("command line", line.0).in_folder(Path::new(""));
        (source, Draft { end, tun, services: vec![service], ..Draft::default() })
    }
}

/// What could be read of a flag that may be given again.
fn drafts<T>(
    mistakes: &mut Mistakes,
    given: Vec<Spanned<String>>,
    read: impl Fn(&str, Span) -> Result<T, Mistake>,
) -> Vec<T> {
    let drafts = given
        .into_iter()
        .filter_map(|text| read(text.get_ref(), text.span()).map_err(|mistake| mistakes.add(mistake)).ok());
    drafts.collect()
}

/// A command line that grows.
struct Line(String);

impl Line {
    fn add(&mut self, flag: &str, value: &str) -> Spanned<String> {
        self.0.push(' ');
        self.0.push_str(flag);
        self.0.push(' ');
        let start = self.0.len();
        self.0.push_str(value);
        Spanned::new(start..self.0.len(), value.to_owned())
    }

    fn one(&mut self, flag: &str, value: Option<&String>) -> Option<Spanned<String>> {
        value.map(|value| self.add(flag, value))
    }

    fn all(&mut self, flag: &str, values: &[String]) -> Vec<Spanned<String>> {
        values.iter().map(|value| self.add(flag, value)).collect()
    }
}
