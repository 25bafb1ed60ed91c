//! `[service.patience]`: how long clients of layer 7 are waited for.

use toml::Spanned;

use super::check::Check;
use super::reader::{Reader, Table};
use super::values;
use crate::l7::spec::Patience;

/// The table as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    handshake: Option<Spanned<String>>,
    head: Option<Spanned<String>>,
    body: Option<Spanned<String>>,
    send: Option<Spanned<String>>,
    keep_alive: Option<Spanned<String>>,
    total: Option<Spanned<String>>,
}

impl Draft {
    /// Reads it out of its service.
    pub fn read(reader: &mut Reader, service: &mut Table<'_>) -> Self {
        let mut table = service.table(reader, "patience", "[service.patience]");
        let draft = Self {
            handshake: table.duration(reader, "handshake"),
            head: table.duration(reader, "head"),
            body: table.duration(reader, "body"),
            send: table.duration(reader, "send"),
            keep_alive: table.duration(reader, "keep_alive"),
            total: table.duration(reader, "total"),
        };
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> Patience {
        let default = Patience::default();
        let mut time = |given: &Option<Spanned<String>>| {
            check.value(given.as_ref(), |text: &String| values::duration(text))
        };
        Patience {
            handshake: time(&self.handshake).unwrap_or(default.handshake),
            head: time(&self.head).unwrap_or(default.head),
            body: time(&self.body).unwrap_or(default.body),
            send: time(&self.send).unwrap_or(default.send),
            keep_alive: time(&self.keep_alive).unwrap_or(default.keep_alive),
            total: time(&self.total).or(default.total),
        }
    }
}
