//! What is made of messages: `request_headers`, `response_headers`, `compress` and `limit`.

use std::collections::HashMap;

use http::header::{HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::conditions::twice;
use super::mistake::Mistake;
use super::reader::{self, Reader, Table};
use super::source::Span;
use super::values;
use crate::l7::spec::{Coding, CompressSpec, FieldChanges, Rate, RateLimits};

/// What routes do that do not say it themselves.
#[derive(Debug, Default)]
pub struct Defaults {
    /// What is changed in the fields of requests.
    pub request_headers: FieldChanges,
    /// What is changed in the fields of answers.
    pub response_headers: FieldChanges,
    /// How answers are compressed.
    pub compress: Option<CompressSpec>,
}

/// The same, as somebody wrote it at a service.
#[derive(Debug, Default)]
pub struct DefaultsDraft {
    request_headers: FieldsDraft,
    response_headers: FieldsDraft,
    compress: Option<CompressDraft>,
}

impl DefaultsDraft {
    /// Reads it out of its service.
    pub fn read(reader: &mut Reader, service: &mut Table<'_>) -> Self {
        Self {
            request_headers: FieldsDraft::read(reader, service, "request_headers", "`request_headers`"),
            response_headers: FieldsDraft::read(reader, service, "response_headers", "`response_headers`"),
            compress: CompressDraft::read(reader, service),
        }
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> Defaults {
        Defaults {
            request_headers: self.request_headers.check(check).unwrap_or_default(),
            response_headers: self.response_headers.check(check).unwrap_or_default(),
            compress: self.compress.as_ref().and_then(|compress| compress.check(check)),
        }
    }
}

/// The words for codings.
pub const CODINGS: [(&str, Coding); 3] = [
    (Coding::Gzip.word(), Coding::Gzip),
    (Coding::Br.word(), Coding::Br),
    (Coding::Zstd.word(), Coding::Zstd),
];

/// The largest size that can be asked for as the smallest one to compress.
const MOST_MIN_BYTES: u64 = 1 << 30;

/// `request_headers` or `response_headers` as somebody wrote it.
#[derive(Debug, Default)]
pub struct FieldsDraft {
    /// Where it is, if it is there.
    pub at: Option<Span>,
    remove: Vec<Spanned<String>>,
    set: Vec<(Spanned<String>, Spanned<String>)>,
    add: Vec<(Spanned<String>, Spanned<String>)>,
}

impl FieldsDraft {
    /// Reads one.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>, key: &'static str, what: &'static str) -> Self {
        let Some(value) = table.value(key) else { return Self::default() };
        let at = Some(value.span());
        let Some(mut table) = reader::inner(what, value) else {
            let example = format!("write {key} = {{ set = {{ X-Env = \"prod\" }}, remove = [\"X-Debug\"] }}");
            reader.wrong_type::<()>(key, value, "a table with `set`, `add` or `remove`", &example);
            return Self { at, ..Self::default() };
        };
        let draft = Self {
            at,
            remove: table.texts(reader, "remove").map(Spanned::into_inner).unwrap_or_default(),
            set: lines(reader, &mut table, "set"),
            add: lines(reader, &mut table, "add"),
        };
        table.finish(reader);
        draft
    }

    /// Checks it; `None` where it is not there.
    pub fn check(&self, check: &mut Check) -> Option<FieldChanges> {
        self.at.as_ref()?;
        let mut names = HashMap::new();
        let remove = self.remove.iter().filter_map(|name| changed(check, &mut names, name)).collect();
        let mut both = |lines: &[(Spanned<String>, Spanned<String>)]| -> Vec<(HeaderName, HeaderValue)> {
            let mut names = HashMap::new();
            let lines = lines.iter().filter_map(|(name, value)| {
                let name = changed(check, &mut names, name);
                Some((name?, check.value(Some(value), |text| values::field_value(text))?))
            });
            lines.collect()
        };
        Some(FieldChanges { remove, set: both(&self.set), add: both(&self.add) })
    }
}

fn changed(
    check: &mut Check,
    seen: &mut HashMap<HeaderName, Span>,
    name: &Spanned<String>,
) -> Option<HeaderName> {
    let field = check.value(Some(name), |text| values::changed_field_name(text))?;
    if let Some(first) = seen.insert(field.clone(), name.span()) {
        twice(check, name, first);
    }
    Some(field)
}

fn lines(
    reader: &mut Reader,
    table: &mut Table<'_>,
    key: &'static str,
) -> Vec<(Spanned<String>, Spanned<String>)> {
    let Some(value) = table.value(key) else { return Vec::new() };
    let example = format!("write {key} = {{ X-Env = \"prod\" }}");
    let Some(inner) = reader::inner("fields", value) else {
        reader.wrong_type::<()>(key, value, "a table", &example);
        return Vec::new();
    };
    let mut lines = Vec::new();
    for (name, value) in inner.entries() {
        let text =
            reader::text(value).or_else(|| reader.wrong_type(key, value, "a table of strings", &example));
        lines.extend(text.map(|text| (name, text)));
    }
    lines
}

/// `compress` as somebody wrote it.
#[derive(Debug)]
pub enum CompressDraft {
    /// `true` or `false`.
    Plain(Spanned<bool>),
    /// In more words.
    Table {
        /// Where it is.
        at: Span,
        /// `codings`.
        codings: Option<Spanned<Vec<Spanned<String>>>>,
        /// `min_bytes`.
        min_bytes: Option<Spanned<i128>>,
    },
}

impl CompressDraft {
    /// Reads it.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("compress")?;
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(Self::Plain(Spanned::new(value.span(), *truth)));
        }
        let Some(mut table) = reader::inner("`compress`", value) else {
            let example =
                "write `compress = true`, or { codings = [\"zstd\", \"br\", \"gzip\"], min_bytes = 1024 }";
            return reader.wrong_type("compress", value, "true, false or a table", example);
        };
        let (codings, min_bytes) = (table.texts(reader, "codings"), table.number(reader, "min_bytes"));
        table.finish(reader);
        Some(Self::Table { at: value.span(), codings, min_bytes })
    }

    /// Where it is.
    pub fn span(&self) -> Span {
        match self {
            Self::Plain(truth) => truth.span(),
            Self::Table { at, .. } => at.clone(),
        }
    }

    /// Checks it; `None` for no compression.
    pub fn check(&self, check: &mut Check) -> Option<CompressSpec> {
        let default = CompressSpec::default();
        let (codings, min_bytes) = match self {
            Self::Plain(truth) => return truth.get_ref().then_some(default),
            Self::Table { codings, min_bytes, .. } => (codings, min_bytes),
        };
        let mut found: Vec<Coding> = Vec::new();
        for word in codings.iter().flat_map(Spanned::get_ref) {
            let coding = check.value(Some(word), |text| values::one_of("a coding", text, &CODINGS));
            found.extend(coding.filter(|coding| !found.contains(coding)));
        }
        if let Some(list) = codings
            && list.get_ref().is_empty()
        {
            let help = "write at least one of gzip, br and zstd; to compress nothing, `compress = false`";
            check.add(Mistake::new(list.span(), "nothing can be compressed by no coding").help(help));
        }
        let min_bytes = check
            .value(min_bytes.as_ref(), |bytes| values::in_range("`min_bytes`", *bytes, 0..=MOST_MIN_BYTES));
        Some(CompressSpec {
            codings: if found.is_empty() { default.codings } else { found },
            min_bytes: min_bytes.unwrap_or(default.min_bytes),
        })
    }
}

/// `limit` as somebody wrote it.
#[derive(Debug, Default)]
pub struct LimitDraft {
    source: Option<RateDraft>,
    total: Option<RateDraft>,
}

/// One rate.
#[derive(Debug)]
struct RateDraft {
    rate: Option<Spanned<String>>,
    burst: Option<Spanned<i128>>,
}

impl LimitDraft {
    /// Reads it.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Self {
        let Some(value) = table.value("limit") else { return Self::default() };
        let example = "write limit = { source = \"10/s\", total = \"1000/s\" }, or one of both";
        let Some(mut table) = reader::inner("`limit`", value) else {
            reader.wrong_type::<()>("limit", value, "a table with `source` or `total`", example);
            return Self::default();
        };
        let draft = Self {
            source: RateDraft::read(reader, &mut table, "source"),
            total: RateDraft::read(reader, &mut table, "total"),
        };
        if !table.has("source") && !table.has("total") {
            reader.add(Mistake::missing(value.span(), "this limit limits nothing").help(example));
        }
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> RateLimits {
        let mut rate = |draft: &Option<RateDraft>| draft.as_ref().and_then(|draft| draft.check(check));
        RateLimits { source: rate(&self.source), total: rate(&self.total) }
    }
}

impl RateDraft {
    fn read(reader: &mut Reader, table: &mut Table<'_>, key: &'static str) -> Option<Self> {
        let value = table.value(key)?;
        if let Some(text) = reader::text(value) {
            return Some(Self { rate: Some(text), burst: None });
        }
        let example = "write \"10/s\", or { rate = \"10/s\", burst = 20 }";
        let Some(mut table) = reader::inner("a rate", value) else {
            return reader.wrong_type(key, value, "a string or a table with `rate`", example);
        };
        let (rate, burst) = (table.text(reader, "rate"), table.number(reader, "burst"));
        if rate.is_none() && !table.has("rate") {
            reader.add(Mistake::missing(value.span(), "this says no rate").help(example));
        }
        table.finish(reader);
        Some(Self { rate, burst })
    }

    fn check(&self, check: &mut Check) -> Option<Rate> {
        let rate = check.value(self.rate.as_ref(), |text| values::rate(text));
        let burst = check.value(self.burst.as_ref(), |burst| {
            values::in_range("`burst`", *burst, 1..=values::MOST_REQUESTS)
        });
        let rate = rate?;
        Some(Rate { burst: burst.unwrap_or(rate.burst), ..rate })
    }
}
