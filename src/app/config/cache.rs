//! `cache` of a service of layer 7: what is kept of answers.

use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::source::Span;
use super::values;
use crate::l7::spec::CacheSpec;

/// The table as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    /// Where it is, if it is there.
    at: Option<Span>,
    max_bytes: Option<Spanned<String>>,
    max_body: Option<Spanned<String>>,
    stale_if_unreachable: Option<Spanned<String>>,
    purge: Option<Spanned<Vec<Spanned<String>>>>,
    /// Whether something that was written is not here, because it had the wrong type.
    incomplete: bool,
}

impl Draft {
    /// Reads it out of its service.
    pub fn read(reader: &mut Reader, service: &mut Table<'_>) -> Self {
        let before = reader.count();
        let at = service.place("cache");
        let mut table = service.table(reader, "cache", "[service.cache]");
        let mut draft = Self {
            at,
            max_bytes: table.size(reader, "max_bytes"),
            max_body: table.size(reader, "max_body"),
            stale_if_unreachable: table.duration(reader, "stale_if_unreachable"),
            purge: table.texts(reader, "purge"),
            incomplete: false,
        };
        draft.incomplete = reader.count() > before;
        table.finish(reader);
        draft
    }

    /// Checks it; `None` where nothing is kept.
    pub fn check(&self, check: &mut Check) -> Option<CacheSpec> {
        let at = self.at.clone()?;
        if self.max_bytes.is_none() && !self.incomplete {
            let mistake = Mistake::missing(at, "this cache has no bound");
            check.add(mistake.help("say how much it may hold: cache = { max_bytes = \"64MiB\" }"));
        }
        let size = |text: &String| values::size(text, CacheSpec::LEAST_BYTES);
        let most = check.value(self.max_bytes.as_ref(), size);
        let default = CacheSpec::with(most.unwrap_or(CacheSpec::LEAST_BYTES));
        let max_body = check.value(self.max_body.as_ref(), |text: &String| values::size(text, 1));
        if let (Some(most), Some(body), Some(given)) = (most, max_body, &self.max_body)
            && body > most / 2
        {
            let message = "one body would take more than half of this cache";
            let help = format!("write at most {}, or more `max_bytes`", values::written_size(most / 2));
            let bound = self.max_bytes.iter().map(|bound| (bound.span(), "all that it may hold"));
            let mistake = Mistake::new(given.span(), message).help(help);
            check.add(bound.fold(mistake, |mistake, (at, label)| mistake.also(at, label)));
        }
        let time = check.value(self.stale_if_unreachable.as_ref(), |text: &String| values::duration(text));
        let purge = self.purge.as_ref().map(|list| list.get_ref().as_slice()).unwrap_or_default();
        Some(CacheSpec {
            max_body: max_body.unwrap_or(default.max_body),
            stale_if_unreachable: time.unwrap_or(default.stale_if_unreachable),
            purge: purge
                .iter()
                .filter_map(|text| check.value(Some(text), |text| values::clients(text)))
                .collect(),
            ..default
        })
    }
}
