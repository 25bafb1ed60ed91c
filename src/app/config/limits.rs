//! `[backends.NAME.limits]`: bounds of a group's upstreams, and `[pool]`, the one of all together.

use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::values;
use crate::l7::spec::{Statuses, UpstreamLimits};

/// The most upstreams that can be asked for, of a backend and of all.
const MOST: usize = 1_000_000;

/// Retries in percent of all requests: at most as many again.
const MOST_RETRIES: u32 = 100;

/// `[backends.NAME.limits]` as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    connections: Option<Spanned<i128>>,
    requests: Option<Spanned<i128>>,
    idle: Option<Spanned<i128>>,
    idle_time: Option<Spanned<String>>,
    age: Option<Spanned<String>>,
    uses: Option<Spanned<i128>>,
    waiting: Option<Spanned<i128>>,
    wait: Option<Spanned<String>>,
    connect: Option<Spanned<String>>,
    response: Option<Spanned<String>>,
    body: Option<Spanned<String>>,
    total: Option<Spanned<String>>,
    retry_percent: Option<Spanned<i128>>,
    retry_on: Option<Spanned<Vec<Spanned<i128>>>>,
    hedge: Option<Spanned<String>>,
}

impl Draft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let draft = Self {
            connections: table.number(reader, "connections"),
            requests: table.number(reader, "requests"),
            idle: table.number(reader, "idle"),
            idle_time: table.duration(reader, "idle_time"),
            age: table.duration(reader, "age"),
            uses: table.number(reader, "uses"),
            waiting: table.number(reader, "waiting"),
            wait: table.duration(reader, "wait"),
            connect: table.duration(reader, "connect"),
            response: table.duration(reader, "response"),
            body: table.duration(reader, "body"),
            total: table.duration(reader, "total"),
            retry_percent: table.number(reader, "retry_percent"),
            retry_on: table.numbers(reader, "retry_on"),
            hedge: table.duration(reader, "hedge"),
        };
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> UpstreamLimits {
        let default = UpstreamLimits::default();
        let connections = count(check, "connections", self.connections.as_ref(), 1);
        let most = connections.unwrap_or(default.connections);
        let idle = count(check, "idle", self.idle.as_ref(), 0);
        if let (Some(idle), Some(given)) = (idle, &self.idle)
            && idle > most
            && (connections.is_some() || self.connections.is_none())
        {
            let message = format!("{idle} cannot be idle where there are {most} at most");
            let mistake = Mistake::new(given.span(), message)
                .help(format!("write at most {most}, or more {}", check.names.of("connections")));
            let also = self.connections.iter().map(|connections| (connections.span(), "the most"));
            check.add(also.fold(mistake, |mistake, (at, label)| mistake.also(at, label)));
        }
        let mut time = |given: &Option<Spanned<String>>| {
            check.value(given.as_ref(), |text: &String| values::duration(text))
        };
        UpstreamLimits {
            connections: most,
            idle: idle.unwrap_or(default.idle.min(most)),
            idle_time: time(&self.idle_time).unwrap_or(default.idle_time),
            age: time(&self.age).or(default.age),
            wait: time(&self.wait).unwrap_or(default.wait),
            connect: time(&self.connect).unwrap_or(default.connect),
            response: time(&self.response).unwrap_or(default.response),
            body: time(&self.body).unwrap_or(default.body),
            total: time(&self.total).or(default.total),
            hedge: time(&self.hedge).or(default.hedge),
            requests: count(check, "requests", self.requests.as_ref(), 1).or(default.requests),
            retry_on: self.retry_on(check),
            uses: check
                .value(self.uses.as_ref(), |uses| values::in_range("`uses`", *uses, 1..=u64::MAX))
                .or(default.uses),
            waiting: count(check, "waiting", self.waiting.as_ref(), 0).unwrap_or(default.waiting),
            retry_percent: check
                .value(self.retry_percent.as_ref(), |percent| {
                    values::in_range("`retry_percent`", *percent, 0..=MOST_RETRIES)
                })
                .unwrap_or(default.retry_percent),
        }
    }
}

impl Draft {
    fn retry_on(&self, check: &mut Check) -> Statuses {
        let mut statuses = Statuses::default();
        let written = self.retry_on.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        for written in written {
            let status = check.value(Some(written), |status| {
                values::in_range("a status in `retry_on`", *status, Statuses::RANGE)
            });
            statuses.insert(status.unwrap_or_default());
        }
        statuses
    }
}

fn count(check: &mut Check, key: &str, given: Option<&Spanned<i128>>, least: usize) -> Option<usize> {
    let name = check.names.of(key);
    check.value(given, |number| values::in_range(&name, *number, least..=MOST))
}

/// `[pool]` as somebody wrote it.
#[derive(Debug, Default)]
pub struct PoolDraft {
    connections: Option<Spanned<i128>>,
}

impl PoolDraft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let draft = Self { connections: table.number(reader, "connections") };
        table.finish(reader);
        draft
    }

    /// Checks it: the bound of all upstreams together, if there is one.
    pub fn check(&self, check: &mut Check) -> Option<usize> {
        count(check, "connections", self.connections.as_ref(), 1)
    }
}
