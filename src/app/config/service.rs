//! `[[service]]`: one virtual service, of either layer, with what both have in common.
//!
//! The keys of both layers are read into one draft, so that a key of the other layer is understood and told of, and
//! is not unknown. Which layer it is for decides who checks the rest: `l4` or `site`.

use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::source::Span;
use super::values::words;
use super::{access_log, backends, cache, l4, patience, requests, route, shape, tls, values};
use crate::balance::Listen;

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
    /// `nat`, of layer 4.
    pub nat: Option<Spanned<String>>,
    /// `scheduler`.
    pub scheduler: Option<Spanned<String>>,
    /// `backends`.
    pub backends: Option<backends::Draft>,
    /// `upstreams`, of layer 7 as all that follow.
    pub upstreams: Option<Spanned<String>>,
    /// `tls`.
    pub tls: Option<tls::Draft>,
    /// `client_ca` and `client_auth`.
    pub client: tls::ClientDraft,
    /// `[[service.route]]`.
    pub routes: Vec<route::Draft>,
    /// `[service.patience]`.
    pub patience: patience::Draft,
    /// `cache`.
    pub cache: cache::Draft,
    /// `[service.requests]`.
    pub requests: requests::Draft,
    /// `access_log` and `access_log_format`.
    pub access_log: access_log::Draft,
    /// `request_headers`, `response_headers` and `compress`.
    pub defaults: shape::DefaultsDraft,
    /// `limit`.
    pub limit: shape::LimitDraft,
    /// `debug`.
    pub debug: Option<Spanned<bool>>,
    /// The keys of layer 7 that are there, each with its place.
    pub of_layer_7: Vec<(&'static str, Span)>,
    /// The keys of which something that was written is not here, because it had the wrong type.
    pub damaged: Vec<&'static str>,
}

/// The layers at which a service can be balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Packet by packet.
    L4,
    /// Request by request.
    L7,
}

/// The words for them.
const MODES: [(&str, Layer); 2] = [("l4", Layer::L4), ("l7", Layer::L7)];

/// The keys that only layer 7 has.
const OF_LAYER_7: [&str; 15] = [
    "cache",
    "upstreams",
    "tls",
    "client_ca",
    "client_auth",
    "route",
    "patience",
    "requests",
    "access_log",
    "access_log_format",
    "request_headers",
    "response_headers",
    "compress",
    "limit",
    "debug",
];

/// Why layer 7 knows no NAT.
const NO_NAT: &str = "at layer 7 there are two connections, and the one to the backend is the balancer's own";

impl Draft {
    /// Reads one table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let mut damaged = Vec::new();
        let mut draft = Self {
            at: table.at(),
            name: reader.noting(&mut damaged, "name", |reader| table.text(reader, "name")),
            mode: reader.noting(&mut damaged, "mode", |reader| table.word(reader, "mode", &words(&MODES))),
            listen: reader.noting(&mut damaged, "listen", |reader| table.texts(reader, "listen")),
            nat: table.word(reader, "nat", &words(&l4::NAT)),
            scheduler: table.word(reader, "scheduler", &backends::schedulers()),
            backends: reader
                .noting(&mut damaged, "backends", |reader| backends::Draft::read(reader, &mut table)),
            upstreams: table.text(reader, "upstreams"),
            tls: reader.noting(&mut damaged, "tls", |reader| tls::read(reader, &mut table)),
            client: reader.noting(&mut damaged, "tls", |reader| tls::ClientDraft {
                ca: table.text(reader, "client_ca"),
                auth: table.text(reader, "client_auth"),
            }),
            routes: reader.noting(&mut damaged, "route", |reader| route::read_all(reader, &mut table)),
            patience: patience::Draft::read(reader, &mut table),
            cache: cache::Draft::read(reader, &mut table),
            requests: requests::Draft::read(reader, &mut table),
            access_log: access_log::Draft::read(reader, &mut table),
            defaults: shape::DefaultsDraft::read(reader, &mut table),
            limit: shape::LimitDraft::read(reader, &mut table),
            debug: table.truth(reader, "debug"),
            of_layer_7: Vec::new(),
            damaged: Vec::new(),
        };
        draft.damaged = damaged;
        draft.of_layer_7 = OF_LAYER_7.iter().filter_map(|key| Some((*key, table.place(key)?))).collect();
        table.finish(reader);
        draft
    }

    /// The layer that it is for, as it says or, where it does not, as its keys show. Notes keys that are
    /// for the other one.
    pub fn layer(&self, check: &mut Check) -> Layer {
        let names = check.names;
        let given = check.value(self.mode.as_ref(), |mode| values::one_of(&names.of("mode"), mode, &MODES));
        let l7 = names.set("mode", "l7");
        let layer = match (given, self.of_layer_7.first()) {
            (Some(layer), _) => layer,
            (None, None) => Layer::L4,
            // Where a word is wrong, nothing that follows from it is.
            (None, Some(_)) if self.mode.is_some() || !self.is_whole(&["mode"]) => return Layer::L7,
            (None, Some((key, at))) => {
                let message = format!(
                    "{} is for layer 7, and a service is for layer 4 unless it says so",
                    names.of(key)
                );
                check.add(Mistake::missing(at.clone(), message).help(format!("add {l7}, or leave it out")));
                return Layer::L7;
            }
        };
        let chosen = |mistake: Mistake| match &self.mode {
            Some(mode) => mistake.also(mode.span(), "chosen here"),
            None => mistake,
        };
        match layer {
            Layer::L4 => {
                for (key, at) in &self.of_layer_7 {
                    let message =
                        format!("{} is for layer 7, and this service is for layer 4", names.of(key));
                    let help = format!("write {l7}, or leave it out");
                    check.add(chosen(Mistake::new(at.clone(), message)).help(help));
                }
            }
            Layer::L7 => {
                if let Some(nat) = &self.nat {
                    let message =
                        format!("{} is for layer 4, and this service is for layer 7", names.of("nat"));
                    let help = format!("leave it out: {NO_NAT}");
                    check.add(chosen(Mistake::new(nat.span(), message)).help(help));
                }
            }
        }
        layer
    }

    /// Whether all that was written of these keys could be read, so that what is missing is missing.
    pub fn is_whole(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.damaged.contains(key))
    }

    /// Its name, empty where that is wrong.
    pub fn checked_name(&self, check: &mut Check) -> String {
        if self.name.is_none() && self.is_whole(&["name"]) {
            let mistake = Mistake::missing(self.at.clone(), "this service has no name");
            check.add(mistake.help("write `name = \"web\"`, or any other, below"));
        }
        check.value(self.name.as_ref(), |name| values::service_name(name)).unwrap_or_default()
    }

    /// Where its name is, or should be.
    pub fn name_span(&self) -> Span {
        self.name.as_ref().map_or(self.at.clone(), Spanned::span)
    }

    /// Where it listens: what is right of it.
    pub fn listens(&self, check: &mut Check) -> Vec<(Listen, Span)> {
        let texts = self.listen.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        if texts.is_empty() && self.is_whole(&["listen"]) {
            let at = self.listen.as_ref().map_or(self.at.clone(), Spanned::span);
            let help = format!("give it {}", check.names.list("listen", "tcp/10.47.0.1:80"));
            check.add(Mistake::missing(at, "this service listens nowhere").help(help));
        }
        texts
            .iter()
            .filter_map(|text| Some((check.value(Some(text), |text| values::listen(text))?, text.span())))
            .collect()
    }

    /// Notes that nobody is there to do the work.
    pub fn no_backend(&self, check: &mut Check, at: Span) {
        if self.is_whole(&["backends", "route"]) {
            let help = format!("give it {}", check.names.list("backends", "10.47.2.2:8080"));
            check.add(Mistake::missing(at, "this service has no backend").help(help));
        }
    }
}
