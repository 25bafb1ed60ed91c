//! `[service.requests]`: what one request may be; and `[clients]`: how many connections there may be.

use toml::Spanned;

use super::check::Check;
use super::reader::{Reader, Table};
use super::values;
use crate::l7::spec::{ClientLimits, RequestLimits};

/// The shortest head that can be asked for: less is no use to any browser.
const LEAST_HEAD: usize = 1 << 10;

/// The most streams that can be asked for.
const MOST_STREAMS: u32 = 10_000;

/// The most connections that can be asked for.
const MOST_CONNECTIONS: usize = 10_000_000;

/// `[service.requests]` as somebody wrote it.
#[expect(clippy::struct_field_names, reason = "they are called what their keys are")]
#[derive(Debug, Default)]
pub struct Draft {
    max_head: Option<Spanned<String>>,
    max_fields: Option<Spanned<i128>>,
    max_body: Option<Spanned<String>>,
    max_streams: Option<Spanned<i128>>,
}

impl Draft {
    /// Reads it out of its service.
    pub fn read(reader: &mut Reader, service: &mut Table<'_>) -> Self {
        let mut table = service.table(reader, "requests", "[service.requests]");
        let draft = Self {
            max_head: table.size(reader, "max_head"),
            max_fields: table.number(reader, "max_fields"),
            max_body: table.size(reader, "max_body"),
            max_streams: table.number(reader, "max_streams"),
        };
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> RequestLimits {
        let default = RequestLimits::default();
        RequestLimits {
            head: check
                .value(self.max_head.as_ref(), |text| {
                    values::size_in(text, LEAST_HEAD..=RequestLimits::MOST_HEAD)
                })
                .unwrap_or(default.head),
            fields: check
                .value(self.max_fields.as_ref(), |number| {
                    values::in_range("`max_fields`", *number, 1..=RequestLimits::MOST_FIELDS)
                })
                .unwrap_or(default.fields),
            body: check
                .value(self.max_body.as_ref(), |text| values::size(text, 0))
                .map(|bytes| bytes as u64)
                .or(default.body),
            streams: check
                .value(self.max_streams.as_ref(), |number| {
                    values::in_range("`max_streams`", *number, 1..=MOST_STREAMS)
                })
                .unwrap_or(default.streams),
        }
    }
}

/// `[clients]` as somebody wrote it.
#[derive(Debug, Default)]
pub struct ClientsDraft {
    connections: Option<Spanned<i128>>,
    per_source: Option<Spanned<i128>>,
}

impl ClientsDraft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let draft = Self {
            connections: table.number(reader, "connections"),
            per_source: table.number(reader, "per_source"),
        };
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> ClientLimits {
        let default = ClientLimits::default();
        let mut count = |key, given: &Option<Spanned<i128>>| {
            let name = check.names.of(key);
            check.value(given.as_ref(), |number| values::in_range(&name, *number, 1..=MOST_CONNECTIONS))
        };
        let connections = count("connections", &self.connections).unwrap_or(default.connections);
        let per_source = count("per_source", &self.per_source);
        ClientLimits { connections, per_source: per_source.unwrap_or(default.per_source) }
    }
}
