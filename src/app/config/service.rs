//! `[[service]]`: one virtual service, with where it listens and its backends.

use std::collections::HashMap;

use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::mistake::{Mistake, Wrong};
use super::reader::{self, Reader, Table};
use super::source::{Span, quoted};
use super::values;
use crate::balance::{BackendSpec, Listen, SchedulerKind, ServiceSpec, Weight};
use crate::datapath::Nat;
use crate::packet::Family;

/// The words for what is rewritten.
const NAT: [(&str, Nat); 2] = [("full", Nat::Full), ("dnat", Nat::Dnat)];

/// A service as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    /// Its `[[service]]`, or the end of the command line.
    pub at: Span,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `mode`.
    pub mode: Option<Spanned<String>>,
    /// `listen`.
    pub listen: Option<Spanned<Vec<Spanned<String>>>>,
    /// `nat`.
    pub nat: Option<Spanned<String>>,
    /// `scheduler`.
    pub scheduler: Option<Spanned<String>>,
    /// `backends`.
    pub backends: Option<Spanned<Vec<BackendDraft>>>,
    /// Whether something that was written is not here, because it had the wrong type.
    pub incomplete: bool,
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

/// A checked service, with the places that checks between services point at.
#[derive(Debug)]
pub struct Service {
    /// The service, but for its listens and backends.
    pub spec: ServiceSpec,
    /// Where its name is.
    pub name: Span,
    /// Where it listens.
    pub listen: Vec<(Listen, Span)>,
    /// Its backends.
    pub backends: Vec<(BackendSpec, Span)>,
}

impl Draft {
    /// Reads one table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let before = reader.count();
        let mut draft = Self {
            at: table.at(),
            name: table.text(reader, "name"),
            mode: table.text(reader, "mode"),
            listen: table.texts(reader, "listen"),
            nat: table.text(reader, "nat"),
            scheduler: table.text(reader, "scheduler"),
            backends: table.list(reader, "backends").map(|list| {
                let at = list.span();
                let items = list.into_inner().into_iter();
                Spanned::new(at, items.filter_map(|item| BackendDraft::read(reader, item)).collect())
            }),
            incomplete: false,
        };
        draft.incomplete = reader.count() > before;
        // The keys of layer 7 are not unknown, only early.
        if !draft.is_layer_7() {
            table.finish(reader);
        }
        draft
    }

    fn is_layer_7(&self) -> bool {
        self.mode.as_ref().is_some_and(|mode| mode.get_ref() == "l7")
    }

    /// Checks it by itself; `None` where it is for layer 7.
    pub fn check(&self, check: &mut Check) -> Option<Service> {
        let names = check.names;
        check.value(self.mode.as_ref(), |mode| match mode.as_str() {
            "l7" => Err(Wrong::new("layer 7 is not supported yet").help("layer 4 is: write l4")),
            other => values::one_of(&names.of("mode"), other, &[("l4", ()), ("l7", ())]),
        });
        if self.is_layer_7() {
            return None;
        }
        let schedulers = SchedulerKind::ALL.iter().map(|kind| (kind.word(), *kind)).collect::<Vec<_>>();
        let service = Service {
            spec: ServiceSpec {
                name: self.name(check),
                listen: Vec::new(),
                nat: check
                    .value(self.nat.as_ref(), |word| values::one_of(&names.of("nat"), word, &NAT))
                    .unwrap_or_default(),
                scheduler: check
                    .value(self.scheduler.as_ref(), |word| {
                        values::one_of(&names.of("scheduler"), word, &schedulers)
                    })
                    .unwrap_or_default(),
                backends: Vec::new(),
            },
            name: self.name.as_ref().map_or(self.at.clone(), Spanned::span),
            listen: self.listens(check),
            backends: self.backends(check),
        };
        self.weights_without_effect(check, service.spec.scheduler);
        self.families(check, &service);
        Some(service)
    }

    fn name(&self, check: &mut Check) -> String {
        if self.name.is_none() && !self.incomplete {
            let mistake = Mistake::missing(self.at.clone(), "this service has no name");
            check.add(mistake.help("write `name = \"web\"`, or any other, below"));
        }
        check.value(self.name.as_ref(), |name| values::service_name(name)).unwrap_or_default()
    }

    fn listens(&self, check: &mut Check) -> Vec<(Listen, Span)> {
        let texts = self.listen.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        if texts.is_empty() && !self.incomplete {
            let at = self.listen.as_ref().map_or(self.at.clone(), Spanned::span);
            let help = format!("give it {}", check.names.list("listen", "tcp/10.47.0.1:80"));
            check.add(Mistake::missing(at, "this service listens nowhere").help(help));
        }
        texts
            .iter()
            .filter_map(|text| Some((check.value(Some(text), |text| values::listen(text))?, text.span())))
            .collect()
    }

    fn backends(&self, check: &mut Check) -> Vec<(BackendSpec, Span)> {
        let drafts = self.backends.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        if drafts.is_empty() && !self.incomplete {
            let at = self.backends.as_ref().map_or(self.at.clone(), Spanned::span);
            let help = format!("give it {}", check.names.list("backends", "10.47.2.2:8080"));
            check.add(Mistake::missing(at, "this service has no backend").help(help));
        }
        let mut seen = HashMap::new();
        let mut backends = Vec::new();
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
            backends.push((BackendSpec { endpoint, weight: weight.unwrap_or(Weight::ONE), drain }, at));
        }
        backends
    }

    /// Weights say nothing to the schedulers that share out evenly.
    fn weights_without_effect(&self, check: &mut Check, scheduler: SchedulerKind) {
        let instead = match scheduler {
            SchedulerKind::Rr => SchedulerKind::Wrr,
            SchedulerKind::Lc => SchedulerKind::Wlc,
            SchedulerKind::Wrr
            | SchedulerKind::Wlc
            | SchedulerKind::Sh
            | SchedulerKind::Mh
            | SchedulerKind::P2c => return,
        };
        let drafts = self.backends.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
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

    /// A flow keeps the family of its VIP. Where some address could not be read, nobody can tell.
    fn families(&self, check: &mut Check, service: &Service) {
        let listens = self.listen.as_ref().map_or(0, |list| list.get_ref().len());
        let backends = self.backends.as_ref().map_or(0, |list| list.get_ref().len());
        let all = listens == service.listen.len() && backends == service.backends.len();
        if self.incomplete || !all || listens == 0 || backends == 0 {
            return;
        }
        for (family, word, other) in [(Family::V4, "IPv4", "IPv6"), (Family::V6, "IPv6", "IPv4")] {
            let listen = service.listen.iter().find(|(listen, _)| listen.endpoint.address.family() == family);
            let mut backends =
                service.backends.iter().filter(|(backend, _)| backend.endpoint.address.family() == family);
            match (listen, backends.next()) {
                (Some((listen, at)), None) => check.add(
                    Mistake::new(at.clone(), format!("{listen} can have no backend: none of them is {word}"))
                        .help(format!(
                            "a flow stays in its family: add an {word} backend, or listen on {other} only"
                        )),
                ),
                (None, Some((backend, at))) => check.add(
                    Mistake::warning(
                        at.clone(),
                        format!(
                            "backend {} gets no flows: the service does not listen on {word}",
                            backend.endpoint
                        ),
                    )
                    .help(format!("a flow stays in its family: listen on an {word} address as well")),
                ),
                (Some((listen, _)), Some((first, at))) => {
                    if first.drain && backends.all(|(backend, _)| backend.drain) {
                        let message = format!("{listen} takes no new flows: all its backends drain");
                        check.add(
                            Mistake::warning(at.clone(), message).help("leave out `drain` at one of them"),
                        );
                    }
                }
                (None, None) => {}
            }
        }
    }
}

impl BackendDraft {
    /// Reads one item of `backends`.
    fn read<'a>(reader: &mut Reader, item: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        if let Some(address) = reader::text(item) {
            return Some(Self { address, weight: None, drain: None });
        }
        let example = "write \"10.47.2.2:8080\" or { address = \"10.47.2.2:8080\", weight = 2 }";
        let Some(mut table) = reader::inner("a backend", item) else {
            return reader.wrong_type("backends", item, "a list of strings or tables", example);
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
