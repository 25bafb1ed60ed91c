//! What a service of layer 4 must be.

use toml::Spanned;

use super::backends::{self, Backends};
use super::check::Check;
use super::groups::{self, Groups};
use super::mistake::Mistake;
use super::service::Draft;
use super::source::Span;
use super::values;
use crate::balance::{Listen, SchedulerKind, ServiceSpec};
use crate::datapath::Nat;
use crate::packet::Family;

/// The words for what is rewritten.
pub(super) const NAT: [(&str, Nat); 2] = [("full", Nat::Full), ("dnat", Nat::Dnat)];

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
    pub backends: Backends,
}

impl Service {
    /// Checks a service by itself.
    pub fn check(check: &mut Check, groups: &mut Groups, draft: &Draft) -> Self {
        let names = check.names;
        let name = draft.checked_name(check);
        let nat = check
            .value(draft.nat.as_ref(), |word| values::one_of(&names.of("nat"), word, &NAT))
            .unwrap_or_default();
        let listen = draft.listens(check);
        let (backends, scheduler) = members(check, groups, draft);
        let service = Self {
            spec: ServiceSpec { name, listen: Vec::new(), nat, scheduler, backends: Vec::new() },
            name: draft.name_span(),
            listen,
            backends,
        };
        service.families(check, draft);
        service
    }

    /// A flow keeps the family of its VIP. Where some address could not be read, nobody can tell.
    fn families(&self, check: &mut Check, draft: &Draft) {
        let listens = draft.listen.as_ref().map_or(0, |list| list.get_ref().len());
        let all = listens == self.listen.len() && self.backends.complete;
        if !draft.is_whole(&["listen", "backends"]) || !all || listens == 0 || self.backends.right.is_empty()
        {
            return;
        }
        for (family, word, other) in [(Family::V4, "IPv4", "IPv6"), (Family::V6, "IPv6", "IPv4")] {
            let listen = self.listen.iter().find(|(listen, _)| listen.endpoint.address.family() == family);
            let mut backends =
                self.backends.right.iter().filter(|(backend, _)| backend.endpoint.address.family() == family);
            match (listen, backends.next()) {
                (Some((listen, at)), None) => check.add(
                    Mistake::new(at.clone(), format!("{listen} can have no backend: none of them is {word}"))
                        .help(format!(
                            "a flow stays in its family: add an {word} backend, or listen on {other} only"
                        )),
                ),
                // A group may be there for others as well.
                (None, Some(_)) if matches!(draft.backends, Some(backends::Draft::Group(_))) => {}
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

/// Its backends, and who of them gets the next flow.
fn members(check: &mut Check, groups: &mut Groups, draft: &Draft) -> (Backends, SchedulerKind) {
    let list = match &draft.backends {
        Some(backends::Draft::Group(group)) => {
            groups::scheduler_of_a_group(check, group, draft.scheduler.as_ref());
            return groups.copy(check, group).unwrap_or_default();
        }
        Some(backends::Draft::Groups(groups)) => {
            let message = "a service of layer 4 has its backends from one group";
            let help = "write the name of one, or all backends in one list with their weights";
            check.add(Mistake::new(groups.span(), message).help(help));
            return Default::default();
        }
        Some(backends::Draft::List(list)) => Some(list),
        None => None,
    };
    let drafts = list.map(|list| list.get_ref().as_slice()).unwrap_or_default();
    // Whoever wrote routes to a service of layer 4 has been told of that, and meant to have no backends here.
    if drafts.is_empty() && draft.routes.is_empty() {
        draft.no_backend(check, list.map_or(draft.at.clone(), Spanned::span));
    }
    let backends = backends::check(check, drafts);
    let scheduler = backends::scheduler(check, draft.scheduler.as_ref());
    // Where the word is wrong, nobody knows which scheduler was meant.
    if scheduler.is_some() || draft.scheduler.is_none() {
        backends::weights_without_effect(check, drafts, scheduler.unwrap_or_default());
    }
    (backends, scheduler.unwrap_or_default())
}
