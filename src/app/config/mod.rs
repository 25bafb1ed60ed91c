//! The configuration: read, checked whole, and printed.
//!
//! ```text
//!   file ── TOML ──▶ reader ──┐                                ┌──▶ Config
//!                             ├──▶ Draft ── check, between ──▶ ┤
//!   flags ────────────────────┘   as written,                  └──▶ mistakes
//!                                 with places
//! ```
//!
//! A `Draft` holds what was written, each value with its place, and nothing about it is sure but its
//! type. Checks make a [`Config`] of it that cannot be wrong. A file and the flags of `run` differ in who
//! makes the draft, and in what messages call things; all that can be wrong is found in one place.
//!
//! Nothing stops at a mistake. A value that is wrong is noted and taken as if it were not
//! there; whatever depends on it is then not checked, so that one slip gives one message.

mod access_log;
mod answers;
mod backends;
mod between;
mod cache;
mod check;
mod conditions;
mod files;
mod flags;
mod flows;
mod forward;
mod group;
mod groups;
mod l4;
mod limits;
mod mistake;
mod patience;
mod print;
mod print_route;
mod reader;
mod requests;
mod route;
mod service;
mod shape;
mod site;
mod source;
mod syntax;
mod timeouts;
mod tls;
mod tun;
mod values;

pub use files::{Unusable, pem_bytes};
pub use flags::Flags;
pub use flows::Flows;
pub use mistake::{Look, Mistake, Severity, counted, render};
pub use source::{ReadError, Source};
pub use tun::Tun;

use toml::Spanned;
use toml::de::DeTable;

use between::Parts;
use check::{Check, Names};
use files::Named;
use groups::Groups;
use l4::Service;
use mistake::Mistakes;
use reader::{Reader, Table};
use service::Layer;
use site::Site;
use source::Span;

use crate::balance::{PassiveHealth, ServiceSpec};
use crate::flow::Timeouts;
use crate::l7::spec::{Plan, SiteSpec};

/// A configuration in which everything fits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The device.
    pub tun: Tun,
    /// Bounds of the flow table.
    pub flows: Flows,
    /// Idle timeouts.
    pub timeouts: Timeouts,
    /// When a backend counts as down.
    pub health: PassiveHealth,
    /// The virtual services of layer 4. Of both layers together there is at least one.
    pub services: Vec<ServiceSpec>,
    /// The virtual services of layer 7, and what they lead to.
    pub plan: Plan,
    /// Where chance starts from; `None` for a different start each time.
    pub seed: Option<u64>,
}

/// What came of reading: a configuration unless there are mistakes, and what there is to say.
#[derive(Debug)]
pub struct Checked {
    /// The configuration, if there is nothing worse than warnings.
    pub config: Option<Config>,
    /// Mistakes and warnings, in the order of their places.
    pub mistakes: Vec<Mistake>,
    /// The files that are named. Nobody has looked at them yet.
    files: Vec<Named>,
}

/// Reads and checks a TOML text. No other file is looked at: [`Checked::look_at_files`] does that.
pub fn from_toml(source: &Source) -> Checked {
    let (tree, errors) = DeTable::parse_recoverable(source.text());
    let mut reader = Reader::default();
    let draft = Draft::read(&mut reader, &tree);
    let mut check = Check::new(Names::Keys, reader.finish(), source.folder());
    let config = draft.check(&mut check);
    let (mistakes, files) = check.finish();
    let mut mistakes = mistakes.into_sorted();
    if !errors.is_empty() {
        mistakes = syntax::with_errors(source, &errors, mistakes);
    }
    Checked::new(config, mistakes, files)
}

/// Reads and checks the flags of `run`.
pub fn from_flags(flags: &Flags) -> (Source, Checked) {
    let mut mistakes = Mistakes::default();
    let (source, draft) = flags.read(&mut mistakes);
    let mut check = Check::new(Names::Flags, mistakes, source.folder());
    let config = draft.check(&mut check);
    let (mistakes, files) = check.finish();
    (source, Checked::new(config, mistakes.into_sorted(), files))
}

impl Checked {
    fn new(config: Config, mistakes: Vec<Mistake>, files: Vec<Named>) -> Self {
        let usable = mistakes.iter().all(|mistake| mistake.severity == Severity::Warning);
        Self { config: usable.then_some(config), mistakes, files }
    }

    /// What there is to say about a source that could not even be read as text.
    pub fn unreadable(mistake: Mistake) -> Self {
        Self { config: None, mistakes: vec![mistake], files: Vec::new() }
    }

    /// Looks at the files that are named, too: without them, there is no configuration.
    #[must_use]
    pub fn look_at_files(mut self) -> Self {
        let found: Vec<Mistake> = self.files.iter().flat_map(files::look).collect();
        if !found.is_empty() {
            self.config = None;
            self.mistakes.extend(found);
            self.mistakes.sort_by_key(|mistake| (mistake.at.start, mistake.at.end));
        }
        self
    }
}

/// A configuration as somebody wrote it.
#[derive(Debug, Default)]
struct Draft {
    /// Where to point when nothing is there.
    end: Span,
    tun: tun::Draft,
    flows: flows::Draft,
    timeouts: timeouts::Draft,
    health: flows::HealthDraft,
    services: Vec<service::Draft>,
    groups: Vec<group::Draft>,
    pool: limits::PoolDraft,
    clients: requests::ClientsDraft,
    access_log: access_log::Draft,
    seed: Option<Spanned<i128>>,
}

impl Draft {
    /// Reads a whole file.
    fn read<'a>(reader: &mut Reader, tree: &'a Spanned<DeTable<'a>>) -> Self {
        let mut top = Table::top(tree);
        let table = top.table(reader, "tun", "[tun]");
        let tun = tun::Draft::read(reader, table);
        let table = top.table(reader, "flows", "[flows]");
        let flows = flows::Draft::read(reader, table);
        let table = top.table(reader, "timeouts", "[timeouts]");
        let timeouts = timeouts::Draft::read(reader, table);
        let table = top.table(reader, "health", "[health]");
        let health = flows::HealthDraft::read(reader, table);
        let services = top.tables(reader, "service", "[[service]]");
        let services = services.into_iter().map(|table| service::Draft::read(reader, table)).collect();
        let table = top.table(reader, "backends", "[backends.NAME]");
        let groups = group::read_all(reader, &table);
        let table = top.table(reader, "pool", "[pool]");
        let pool = limits::PoolDraft::read(reader, table);
        let table = top.table(reader, "clients", "[clients]");
        let clients = requests::ClientsDraft::read(reader, table);
        let access_log = access_log::Draft::read(reader, &mut top);
        let seed = top.number(reader, "seed");
        let end = top.at();
        top.finish(reader);
        Self { end, tun, flows, timeouts, health, services, groups, pool, clients, access_log, seed }
    }

    /// Checks everything. Where there are mistakes the result is not to be used.
    fn check(&self, check: &mut Check) -> Config {
        let (tun, local) = self.tun.check(check);
        let flows = self.flows.check(check);
        let timeouts = self.timeouts.check(check);
        let health = self.health.check(check);
        let seed = check.value(self.seed.as_ref(), |seed| {
            values::in_range(&check::Names::Keys.of("seed"), *seed, 0..=u64::MAX)
        });
        if self.services.is_empty() {
            let mistake = Mistake::missing(self.end.clone(), "there is no service");
            check.add(mistake.help(EXAMPLE));
        }
        let mut whole =
            Parts { services: Vec::new(), sites: Vec::new(), groups: Groups::check(check, &self.groups) };
        let logs = self.access_log.check(check);
        for draft in &self.services {
            match draft.layer(check) {
                Layer::L4 => whole.services.push(Service::check(check, &mut whole.groups, draft)),
                Layer::L7 => whole.sites.push(Site::check(check, &mut whole.groups, draft, &logs)),
            }
        }
        let mtu = self.tun.mtu.as_ref().map(Spanned::span);
        let tun = between::check(check, tun, mtu, local, &whole);
        let Parts { services, sites, groups } = whole;
        let mut sites: Vec<SiteSpec> = sites.into_iter().map(|site| site.spec).collect();
        let groups = groups.finish(check, &mut sites);
        self.access_log.check_use(check, sites.iter().any(|site| site.access_log.is_some()));
        let plan =
            Plan { sites, groups, upstreams: self.pool.check(check), clients: self.clients.check(check) };
        let services = services.into_iter().map(between::complete).collect();
        Config { tun, flows, timeouts, health, services, plan, seed }
    }
}

/// The least that a file must have.
const EXAMPLE: &str = "a file needs at least this:

[[service]]
name     = \"web\"
listen   = [\"tcp/10.47.0.1:80\"]
backends = [\"10.47.2.2:8080\", \"10.47.2.3:8080\"]";

#[cfg(test)]
mod tests;
