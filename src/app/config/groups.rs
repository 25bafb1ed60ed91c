//! All groups of backends: those with a name of their own, and those that stand where they are used.
//!
//! The latter become groups like any other, named after their service, so that what works with groups knows one
//! kind only. No two have one name.

use std::collections::{HashMap, HashSet};

use toml::Spanned;

use super::backends::{self, Backends};
use super::check::Check;
use super::group::{Draft, Group, plain};
use super::mistake::Mistake;
use super::reader::nearest;
use super::source::{Span, quoted};
use super::values;
use crate::balance::SchedulerKind;
use crate::l7::spec::{GroupId, GroupSpec, RouteSpec, Share, SiteSpec};

/// How often it is found out what was meant by the name of a group that is not there. That costs a
/// comparison with all names, and no more mistakes than this are shown.
const MOST_GUESSES: usize = 100;

/// All groups, while services are checked.
#[derive(Debug)]
pub struct Groups {
    all: Vec<Group>,
    /// By name, those with a wrong one as well.
    names: HashMap<String, GroupId>,
    /// Those that a route leads to, and those that a layer-4 service has its backends from.
    used: HashSet<GroupId>,
    copied: HashSet<GroupId>,
    /// How many names were not found.
    not_found: usize,
}

impl Groups {
    /// Checks what was written.
    pub fn check(check: &mut Check, drafts: &[Draft]) -> Self {
        let all = drafts.iter().map(|draft| draft.check(check)).collect();
        let named = |(number, draft): (usize, &Draft)| (draft.name.get_ref().clone(), GroupId(number));
        Self {
            all,
            names: drafts.iter().enumerate().map(named).collect(),
            used: HashSet::new(),
            copied: HashSet::new(),
            not_found: 0,
        }
    }

    /// The group that a route of layer 7 names.
    pub fn route(&mut self, check: &mut Check, name: &Spanned<String>) -> Option<GroupId> {
        let group = self.find(check, name)?;
        self.used.insert(group);
        Some(group)
    }

    /// The backends and the scheduler of the group that a service of layer 4 names.
    pub fn copy(&mut self, check: &mut Check, name: &Spanned<String>) -> Option<(Backends, SchedulerKind)> {
        let group = self.find(check, name)?;
        self.copied.insert(group);
        let group = self.all.get(group.0)?;
        Some((group.members.clone(), group.spec.scheduler))
    }

    /// A group for backends that stand where they are used, by `name` or, where that is taken, a longer one.
    pub fn add(&mut self, name: &str, at: Span, scheduler: SchedulerKind, members: Backends) -> GroupId {
        let more = (2usize..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.to_owned()).chain(more);
        let name = names.find(|name| !self.names.contains_key(name)).unwrap_or_default();
        let group = GroupId(self.all.len());
        self.names.insert(name.clone(), group);
        self.used.insert(group);
        self.all.push(Group { spec: plain(name, scheduler), name: at, members });
        group
    }

    fn find(&mut self, check: &mut Check, name: &Spanned<String>) -> Option<GroupId> {
        let found = self.names.get(name.get_ref()).copied();
        if found.is_none() {
            let shown = quoted(name.get_ref());
            let mistake = Mistake::new(name.span(), format!("there is no group {shown}"));
            check.add(mistake.help(self.advice(name.get_ref())));
        }
        found
    }

    fn advice(&mut self, name: &str) -> String {
        self.not_found += 1;
        if self.not_found <= MOST_GUESSES
            && let Some(near) = nearest(name, self.names.keys().map(String::as_str))
        {
            return format!("did you mean {}?", quoted(near));
        }
        let name = quoted(name);
        let name = name.trim_matches('`');
        format!("write `members = [...]` under `[backends.{name}]`, or put a list of backends here")
    }

    /// All backends of all groups, each with its place.
    pub fn members(&self) -> impl Iterator<Item = &Backends> {
        self.all.iter().map(|group| &group.members)
    }

    /// Notes groups that nobody uses, and gives all that routes could lead to. Those that only layer 4 has its
    /// backends from are left out, and so the routes get other numbers.
    pub fn finish(self, check: &mut Check, sites: &mut [SiteSpec]) -> Vec<GroupSpec> {
        let mut numbers = HashMap::new();
        let mut groups = Vec::new();
        for (number, Group { spec, name, members }) in self.all.into_iter().enumerate() {
            let number = GroupId(number);
            if !self.used.contains(&number) {
                if self.copied.contains(&number) {
                    continue;
                }
                // Where a name could not be found, this may be the one that was meant.
                if self.not_found == 0 && !spec.name.is_empty() {
                    let message = format!("nobody uses the group {}", quoted(&spec.name));
                    let help = "name it in the `backends` of a service or a route, or leave it out";
                    check.add(Mistake::warning(name, message).help(help));
                }
            }
            numbers.insert(number, GroupId(groups.len()));
            let members = members.right.into_iter().map(|(backend, _)| backend).collect();
            groups.push(GroupSpec { members, ..spec });
        }
        for group in sites.iter_mut().flat_map(|site| &mut site.routes).flat_map(RouteSpec::groups_mut) {
            *group = numbers.get(group).copied().unwrap_or(*group);
        }
        groups
    }
}

/// The most that one group can weigh.
const MOST_WEIGHT: u16 = 10_000;

/// Where a list, or the names of groups, lead to at layer 7.
pub fn lead(
    check: &mut Check,
    groups: &mut Groups,
    name: &str,
    written: &backends::Draft,
    scheduler: Option<&Spanned<String>>,
) -> Option<Vec<Share>> {
    let alone = |group| vec![Share { group, weight: 1 }];
    match written {
        backends::Draft::Group(group) => {
            scheduler_of_a_group(check, group, scheduler);
            groups.route(check, group).map(alone)
        }
        backends::Draft::Groups(list) => shares(check, groups, list, scheduler),
        backends::Draft::List(list) => {
            if list.get_ref().is_empty() {
                let help = "write the backends, or the name of a `[backends.NAME]`";
                check.add(Mistake::new(list.span(), "there is no backend in this list").help(help));
            }
            let members = backends::check(check, list.get_ref());
            let scheduler = backends::scheduler(check, scheduler).unwrap_or_default();
            backends::weights_without_effect(check, list.get_ref(), scheduler);
            backends::all_drain(check, "this route", &members);
            Some(alone(groups.add(name, list.span(), scheduler, members)))
        }
    }
}

/// What groups that share requests get of them.
fn shares(
    check: &mut Check,
    groups: &mut Groups,
    list: &Spanned<Vec<backends::ShareDraft>>,
    scheduler: Option<&Spanned<String>>,
) -> Option<Vec<Share>> {
    let mut seen: HashMap<GroupId, Span> = HashMap::new();
    let mut shares = Vec::new();
    for draft in list.get_ref() {
        scheduler_of_a_group(check, &draft.group, scheduler);
        let weight = check
            .value(draft.weight.as_ref(), |weight| values::in_range("`weight`", *weight, 0..=MOST_WEIGHT));
        let Some(group) = groups.route(check, &draft.group) else { continue };
        if let Some(first) = seen.insert(group, draft.group.span()) {
            let message = format!("the group {} is there twice", quoted(draft.group.get_ref()));
            let mistake = Mistake::new(draft.group.span(), message).also(first, "first here");
            check.add(mistake.help("to give it more requests, give it a larger weight"));
        }
        let written = draft.weight.is_some();
        if let Some(weight) = weight.or((!written).then_some(1)) {
            shares.push(Share { group, weight });
        }
    }
    if shares.len() < list.get_ref().len() {
        return None;
    }
    if shares.iter().all(|share| share.weight == 0) {
        let help = "give at least one of them a weight of 1 or more";
        check.add(Mistake::new(list.span(), "none of these groups gets a request").help(help));
    }
    Some(shares)
}

/// A group has a scheduler of its own.
pub fn scheduler_of_a_group(check: &mut Check, group: &Spanned<String>, scheduler: Option<&Spanned<String>>) {
    if let Some(scheduler) = scheduler {
        let shown = quoted(group.get_ref());
        let name = shown.trim_matches('`');
        check.add(
            Mistake::new(scheduler.span(), format!("the group {shown} has a scheduler of its own"))
                .also(group.span(), "its backends come from there")
                .help(format!("write it under `[backends.{name}]`, and leave it out here")),
        );
    }
}
