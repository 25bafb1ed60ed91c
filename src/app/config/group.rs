//! `[backends.NAME]`: a group of backends that do the same, and how they are reached.

use toml::Spanned;
use toml::de::DeValue;

use super::backends::{self, BackendDraft, Backends};
use super::check::Check;
use super::files::Named;
use super::limits;
use super::mistake::Mistake;
use super::reader::{self, Reader, Table};
use super::source::{Span, quoted};
use super::values;
use crate::balance::SchedulerKind;
use crate::l7::spec::{BackendTls, GroupSpec, ProxyProtocol, UpstreamLimits, UpstreamProtocol};

/// The words for what is spoken to backends.
pub const PROTOCOLS: [(&str, UpstreamProtocol); 2] =
    [("http1", UpstreamProtocol::Http1), ("http2", UpstreamProtocol::Http2)];

/// The words for what they are told about clients.
pub const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 2] =
    [("none", ProxyProtocol::None), ("v2", ProxyProtocol::V2)];

/// How such a table is called.
const TABLE: &str = "[backends.NAME]";

/// A group as somebody wrote it.
#[derive(Debug)]
pub struct Draft {
    /// Its name.
    pub name: Spanned<String>,
    scheduler: Option<Spanned<String>>,
    members: Option<Spanned<Vec<BackendDraft>>>,
    protocol: Option<Spanned<String>>,
    tls: Option<TlsDraft>,
    proxy_protocol: Option<Spanned<String>>,
    limits: limits::Draft,
    /// `members`, where some that were written are not here, because they had the wrong type.
    damaged: Vec<&'static str>,
}

/// `tls` of a group as somebody wrote it.
#[derive(Debug)]
struct TlsDraft {
    at: Span,
    ca: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    incomplete: bool,
}

/// A checked group, with the places that other checks point at.
#[derive(Debug)]
pub struct Group {
    /// The group, but for its members.
    pub spec: GroupSpec,
    /// Where its name is.
    pub name: Span,
    /// Its members.
    pub members: Backends,
}

/// Reads `[backends]`, which has nothing but groups.
pub fn read_all(reader: &mut Reader, table: &Table<'_>) -> Vec<Draft> {
    // So that advice about keys elsewhere knows those of a group, also where there is none.
    Draft::read(reader, Spanned::new(0..0, String::new()), Table::absent(TABLE));
    let groups = table.entries().into_iter().map(|(name, value)| {
        let Some(table) = reader::inner(TABLE, value) else {
            let key = format!("backends.{}", name.get_ref());
            let help = format!("write it as a table: `members = [...]` under `[{key}]`");
            reader.wrong_type::<()>(quoted(&key).trim_matches('`'), value, "a table", &help);
            // The name is known all the same.
            let draft = Draft::read(reader, name, Table::absent(TABLE));
            return Draft { damaged: vec!["members"], ..draft };
        };
        Draft::read(reader, name, table)
    });
    groups.collect()
}

impl Draft {
    fn read(reader: &mut Reader, name: Spanned<String>, mut table: Table<'_>) -> Self {
        let mut damaged = Vec::new();
        let draft = Self {
            name,
            scheduler: table.word(reader, "scheduler", &backends::schedulers()),
            members: reader.noting(&mut damaged, "members", |reader| {
                table.value("members").and_then(|value| backends::list(reader, "members", value))
            }),
            protocol: table.text(reader, "protocol"),
            tls: TlsDraft::read(reader, &mut table),
            proxy_protocol: table.text(reader, "proxy_protocol"),
            limits: {
                let limits = table.table(reader, "limits", "[backends.NAME.limits]");
                limits::Draft::read(reader, limits)
            },
            damaged,
        };
        table.not_yet(
            reader,
            "health",
            "leave it out: backends are not asked how they are, their own traffic shows it (`[health]`)",
        );
        table.finish(reader);
        draft
    }

    /// Checks it by itself.
    pub fn check(&self, check: &mut Check) -> Group {
        let name = check.value(Some(&self.name), |name| values::group_name(name)).unwrap_or_default();
        let drafts = self.members.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        if drafts.is_empty() && self.damaged.is_empty() {
            let at = self.members.as_ref().map_or(self.name.span(), Spanned::span);
            let message = format!("the group {} has no members", quoted(self.name.get_ref()));
            check.add(
                Mistake::missing(at, message)
                    .help("give it `members = [\"10.47.2.2:8080\", \"10.47.2.3:8080\"]`"),
            );
        }
        let mut members = backends::check(check, drafts);
        members.complete &= self.damaged.is_empty();
        let scheduler = backends::scheduler(check, self.scheduler.as_ref());
        if scheduler.is_some() || self.scheduler.is_none() {
            backends::weights_without_effect(check, drafts, scheduler.unwrap_or_default());
        }
        let scheduler = scheduler.unwrap_or_default();
        backends::all_drain(check, &format!("the group {}", quoted(self.name.get_ref())), &members);
        let spec = GroupSpec {
            protocol: check
                .value(self.protocol.as_ref(), |word| values::one_of("`protocol`", word, &PROTOCOLS))
                .unwrap_or_default(),
            tls: self.tls.as_ref().and_then(|tls| tls.check(check)),
            proxy_protocol: check
                .value(self.proxy_protocol.as_ref(), |word| {
                    values::one_of("`proxy_protocol`", word, &PROXY_PROTOCOLS)
                })
                .unwrap_or_default(),
            limits: self.limits.check(check),
            ..plain(name, scheduler)
        };
        Group { spec, name: self.name.span(), members }
    }
}

/// A group that says nothing but who is in it.
pub fn plain(name: String, scheduler: SchedulerKind) -> GroupSpec {
    GroupSpec {
        name,
        scheduler,
        members: Vec::new(),
        protocol: UpstreamProtocol::default(),
        tls: None,
        proxy_protocol: ProxyProtocol::default(),
        limits: UpstreamLimits::default(),
    }
}

impl TlsDraft {
    fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("tls")?;
        let Some(mut table) = reader::inner("the `tls` of a group", value) else {
            let help = match value.get_ref() {
                DeValue::String(text) => format!("write {{ ca = \"{}\" }}", quoted(text).trim_matches('`')),
                _ => "write { ca = \"ca.pem\", name = \"api.internal\" }; for cleartext leave it out"
                    .to_owned(),
            };
            return reader.wrong_type("tls", value, "a table with `ca`", &help);
        };
        let before = reader.count();
        let (ca, name) = (table.text(reader, "ca"), table.text(reader, "name"));
        let incomplete = reader.count() > before;
        table.finish(reader);
        Some(Self { at: value.span(), ca, name, incomplete })
    }

    fn check(&self, check: &mut Check) -> Option<BackendTls> {
        if self.ca.is_none() && !self.incomplete {
            let message = "this does not say whose signature on the backends' certificates counts";
            let help = "write `ca = \"ca.pem\"`: a PEM file with the certificates of those who sign";
            check.add(Mistake::missing(self.at.clone(), message).help(help));
        }
        let name = check.value(self.name.as_ref(), |name| values::server_name(name));
        let ca = check.file(self.ca.as_ref())?;
        check.names_file(Named::Authority(ca.clone()));
        Some(BackendTls { ca: ca.path, name })
    }
}
