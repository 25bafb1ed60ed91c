//! `backends` and `members`: lists of backends, or the name of a group of them.

use std::collections::HashMap;
use std::net::IpAddr;

use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{self, Reader, Table};
use super::source::{Span, quoted};
use super::values;
use crate::balance::{BackendSpec, SchedulerKind, Weight};

/// `backends` as somebody wrote it.
#[derive(Debug)]
pub enum Draft {
    /// One by one.
    List(Spanned<Vec<BackendDraft>>),
    /// By the name of their group.
    Group(Spanned<String>),
    /// By the names of several, which share what comes.
    Groups(Spanned<Vec<ShareDraft>>),
}

/// A group's share.
#[derive(Debug)]
pub struct ShareDraft {
    /// `group`.
    pub group: Spanned<String>,
    /// `weight`.
    pub weight: Option<Spanned<i128>>,
}

/// A backend as somebody wrote it.
#[derive(Debug)]
pub struct BackendDraft {
    /// The text, or `address`.
    pub address: Spanned<String>,
    /// `weight`.
    pub weight: Option<Spanned<i128>>,
    /// `drain`.
    pub drain: Option<Spanned<bool>>,
}

/// Backends that were checked.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    /// Those that are right, each with its place.
    pub right: Vec<(BackendSpec, Span)>,
    /// Whether these are all that were written.
    pub complete: bool,
}

impl Draft {
    /// Reads `backends`.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("backends")?;
        match value.get_ref() {
            DeValue::Array(items) if items.iter().any(has_group) => {
                let shares: Vec<_> = items.iter().filter_map(|item| ShareDraft::read(reader, item)).collect();
                (!shares.is_empty()).then(|| Self::Groups(Spanned::new(value.span(), shares)))
            }
            DeValue::Array(_) => list(reader, "backends", value).map(Self::List),
            // No name of a group has a colon or is an address, and so this must be a backend.
            DeValue::String(text) if text.contains(':') || text.parse::<IpAddr>().is_ok() => {
                let help = format!("put it in brackets: [{}]", quoted(text).replace('`', "\""));
                reader.wrong_type("backends", value, "a list, or the name of a group", &help)
            }
            DeValue::String(_) => reader::text(value).map(Self::Group),
            _ => {
                let help = "write backends = [\"10.47.2.2:8080\"], or the name of a `[backends.NAME]`";
                reader.wrong_type("backends", value, "a list, or the name of a group", help)
            }
        }
    }

    /// Where it is.
    pub fn span(&self) -> Span {
        match self {
            Self::List(list) => list.span(),
            Self::Group(name) => name.span(),
            Self::Groups(shares) => shares.span(),
        }
    }
}

/// Whether an item of a list says a group.
fn has_group(item: &Spanned<DeValue<'_>>) -> bool {
    item.get_ref().as_table().is_some_and(|table| table.contains_key("group"))
}

impl ShareDraft {
    fn read<'a>(reader: &mut Reader, item: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        let table = reader::inner("a share", item).filter(|_| has_group(item));
        let Some(mut table) = table else {
            let message = "this is no group, and the list has groups";
            let help = "write { group = \"NAME\", weight = 1 }, and its backends under `[backends.NAME]`";
            reader.add(Mistake::new(item.span(), message).help(help));
            return None;
        };
        let (group, weight) = (table.text(reader, "group"), table.number(reader, "weight"));
        table.finish(reader);
        Some(Self { group: group?, weight })
    }
}

/// Reads the items of a list.
pub fn list<'a>(
    reader: &mut Reader,
    key: &'static str,
    value: &'a Spanned<DeValue<'a>>,
) -> Option<Spanned<Vec<BackendDraft>>> {
    let DeValue::Array(items) = value.get_ref() else {
        let help = format!("write {key} = [\"10.47.2.2:8080\", \"10.47.2.3:8080\"]");
        return reader.wrong_type(key, value, "a list", &help);
    };
    let drafts: Vec<_> = items.iter().filter_map(|item| BackendDraft::read(reader, key, item)).collect();
    // A list that is only empty because nothing in it could be read is none.
    (items.is_empty() || !drafts.is_empty()).then(|| Spanned::new(value.span(), drafts))
}

/// Checks a list, each backend by itself and against those before it.
pub fn check(check: &mut Check, drafts: &[BackendDraft]) -> Backends {
    let mut seen = HashMap::new();
    let mut right = Vec::new();
    for draft in drafts {
        let at = draft.address.span();
        let endpoint = check.value(Some(&draft.address), |text| values::endpoint(text));
        let weight = check.value(draft.weight.as_ref(), |weight| values::weight(*weight));
        let Some(endpoint) = endpoint else { continue };
        let drain = draft.drain.as_ref().is_some_and(|drain| *drain.get_ref());
        let first = seen.entry(endpoint).or_insert_with(|| at.clone()).clone();
        if first != at {
            check.add(
                Mistake::new(at.clone(), format!("backend {endpoint} is there twice"))
                    .also(first, "first here")
                    .help("to give it more flows, give it a larger weight"),
            );
            continue;
        }
        right.push((BackendSpec { endpoint, weight: weight.unwrap_or(Weight::ONE), drain }, at));
    }
    Backends { complete: right.len() == drafts.len(), right }
}

/// Weights say nothing to the schedulers that share out evenly.
pub fn weights_without_effect(check: &mut Check, drafts: &[BackendDraft], scheduler: SchedulerKind) {
    let instead = match scheduler {
        SchedulerKind::Rr => SchedulerKind::Wrr,
        SchedulerKind::Lc => SchedulerKind::Wlc,
        SchedulerKind::Wrr
        | SchedulerKind::Wlc
        | SchedulerKind::Sh
        | SchedulerKind::Mh
        | SchedulerKind::P2c => return,
    };
    if let Some(weight) = drafts.iter().find_map(|draft| {
        draft
            .weight
            .as_ref()
            .filter(|weight| values::weight(*weight.get_ref()).is_ok_and(|weight| weight != Weight::ONE))
    }) {
        let message = format!("the scheduler {scheduler} does not look at weights");
        let help =
            format!("write {}, or leave the weights out", check.names.set("scheduler", instead.word()));
        check.add(Mistake::warning(weight.span(), message).help(help));
    }
}

/// Somebody must take what is new.
pub fn all_drain(check: &mut Check, what: &str, backends: &Backends) {
    if let Some((first, at)) = backends.right.first()
        && backends.complete
        && first.drain
        && backends.right.iter().all(|(backend, _)| backend.drain)
    {
        let message = format!("{what} takes no requests: all its backends drain");
        check.add(Mistake::warning(at.clone(), message).help("leave out `drain` at one of them"));
    }
}

/// The words for who gets the next one.
pub fn schedulers() -> Vec<&'static str> {
    SchedulerKind::ALL.iter().map(|kind| kind.word()).collect()
}

/// Who gets the next one.
pub fn scheduler(check: &mut Check, given: Option<&Spanned<String>>) -> Option<SchedulerKind> {
    let name = check.names.of("scheduler");
    let words: Vec<_> = SchedulerKind::ALL.iter().map(|kind| (kind.word(), *kind)).collect();
    check.value(given, |word| values::one_of(&name, word, &words))
}

impl BackendDraft {
    /// Reads one item.
    fn read<'a>(reader: &mut Reader, key: &str, item: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        if let Some(address) = reader::text(item) {
            return Some(Self { address, weight: None, drain: None });
        }
        let example = "write \"10.47.2.2:8080\" or { address = \"10.47.2.2:8080\", weight = 2 }";
        let Some(mut table) = reader::inner("a backend", item) else {
            return reader.wrong_type(key, item, "a list of strings or tables", example);
        };
        let (address, weight, drain) =
            (table.text(reader, "address"), table.number(reader, "weight"), table.truth(reader, "drain"));
        if address.is_none() && !table.has("address") {
            reader.add(Mistake::missing(item.span(), "this backend has no address").help(example));
        }
        table.finish(reader);
        Some(Self { address: address?, weight, drain })
    }

    /// From a flag: `10.47.2.2:8080`, or `10.47.2.2:8080*2`.
    pub fn from_flag(text: &str, at: Span) -> Result<Self, Mistake> {
        let (address, weight) = match text.split_once('*') {
            None => (text, None),
            Some((address, weight)) => {
                let start = at.start + address.len() + 1;
                let number = weight.parse::<i128>().map_err(|_| {
                    Mistake::new(start..at.end, format!("the weight {} is not a number", quoted(weight)))
                        .help(format!("write a number behind the `*`, such as {address}*2"))
                })?;
                (address, Some(Spanned::new(start..at.end, number)))
            }
        };
        Ok(Self {
            address: Spanned::new(at.start..at.start + address.len(), address.to_owned()),
            weight,
            drain: None,
        })
    }
}
