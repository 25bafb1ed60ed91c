//! `[tun]`: the device, its queues, and the addresses that full NAT sends from.

use ipnet::IpNet;
use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::source::Span;
use super::values;
use crate::datapath::WorkerId;
use crate::io::IoChoice;

/// The least MTU that every IPv4 host must take (RFC 791), and so the least for a device.
const MTU_V4: u16 = 576;
/// The least MTU of a link that carries IPv6 (RFC 8200 §5).
pub const MTU_V6: u16 = 1280;

/// The device as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tun {
    /// What the device is called.
    pub name: String,
    /// Which kind of queue.
    pub io: IoChoice,
    /// How many, each with a worker thread of its own; at most [`WorkerId::MAX`].
    pub queues: usize,
    /// What full NAT sends from, routed to the device. No two overlap.
    pub local: Vec<IpNet>,
    /// Whether addresses, routes and settings of the host are changed, and changed back at the end.
    pub configure: bool,
    /// The largest packet on the device.
    pub mtu: u16,
}

/// The local prefixes that are right, each with its place.
#[derive(Debug)]
pub struct Local {
    /// In the order in which they were written.
    pub prefixes: Vec<(IpNet, Span)>,
    /// Whether these are all that were written.
    pub complete: bool,
}

/// The device as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `io`.
    pub io: Option<Spanned<String>>,
    /// `queues`.
    pub queues: Option<Spanned<i128>>,
    /// `local`.
    pub local: Option<Spanned<Vec<Spanned<String>>>>,
    /// `configure`.
    pub configure: Option<Spanned<bool>>,
    /// `mtu`.
    pub mtu: Option<Spanned<i128>>,
    /// Whether something that was written is not here, because it had the wrong type.
    pub incomplete: bool,
}

impl Draft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let before = reader.count();
        let mut draft = Self {
            name: table.text(reader, "name"),
            io: table.text(reader, "io"),
            queues: table.number(reader, "queues"),
            local: table.texts(reader, "local"),
            configure: table.truth(reader, "configure"),
            mtu: table.number(reader, "mtu"),
            incomplete: false,
        };
        draft.incomplete = reader.count() > before;
        table.finish(reader);
        draft
    }

    /// Checks each value by itself. The prefixes come back apart, for what must be checked between
    /// tables; `None` where none were given.
    pub fn check(&self, check: &mut Check) -> (Tun, Option<Local>) {
        let names = check.names;
        let choices = IoChoice::ALL.map(|choice| (choice.word(), choice));
        let io = check
            .value(self.io.as_ref(), |word| values::one_of(&names.of("io"), word, &choices))
            .unwrap_or_default();
        let queues = check
            .value(self.queues.as_ref(), |number| {
                values::in_range(&names.of("queues"), *number, 1..=WorkerId::MAX)
            })
            .unwrap_or(1);
        if let (Some(places), IoChoice::Plain, 2..) = (&self.queues, io, queues) {
            let message = format!("a plain device has one queue, and not {queues}");
            let help = format!("write {} or {}", names.set("queues", "1"), names.set("io", "offload"));
            let mistake = Mistake::new(places.span(), message).help(help);
            let io = self.io.as_ref().map(Spanned::span);
            check.add(io.into_iter().fold(mistake, |mistake, at| mistake.also(at, "plain is chosen here")));
        }
        let tun = Tun {
            name: check
                .value(self.name.as_ref(), |name| values::device_name(name))
                .unwrap_or_else(|| "fs0".to_owned()),
            io,
            queues,
            local: Vec::new(),
            configure: self.configure.as_ref().is_none_or(|configure| *configure.get_ref()),
            mtu: check
                .value(self.mtu.as_ref(), |mtu| values::in_range(&names.of("mtu"), *mtu, MTU_V4..=u16::MAX))
                .unwrap_or(1500),
        };
        let local = self.local.as_ref().map(|written| {
            let prefixes = prefixes(check, written.get_ref());
            Local { complete: !self.incomplete && prefixes.len() == written.get_ref().len(), prefixes }
        });
        (tun, local)
    }
}

/// The prefixes that are right, and do not overlap with one before.
fn prefixes(check: &mut Check, list: &[Spanned<String>]) -> Vec<(IpNet, Span)> {
    let mut right: Vec<(IpNet, Span)> = list
        .iter()
        .filter_map(|text| Some((check.value(Some(text), |text| values::prefix(text))?, text.span())))
        .collect();
    // In this order a prefix comes right behind the one that contains it, or behind others
    // that it contains as well.
    right.sort_by_key(|(net, at)| (net.network(), net.prefix_len(), at.start));
    let mut outer: Option<(IpNet, Span)> = None;
    for (net, at) in &right {
        match &outer {
            Some((first, first_at)) if first.contains(net) => {
                let relation = if first == net { "is there twice" } else { "is a part of another one" };
                check.add(
                    Mistake::new(at.clone(), format!("the local prefix {net} {relation}"))
                        .also(first_at.clone(), format!("{first} is here"))
                        .help("leave one out"),
                );
            }
            _ => outer = Some((*net, at.clone())),
        }
    }
    right.sort_by_key(|(_, at)| at.start);
    right
}
