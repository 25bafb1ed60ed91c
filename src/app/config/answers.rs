//! Answers that need no backend: `redirect` and `respond`.

use toml::Spanned;

use super::check::Check;
use super::forward::RewriteDraft;
use super::mistake::Mistake;
use super::reader::{self, Reader, Table};
use super::source::Span;
use super::values;
use crate::l7::spec::{RedirectScheme, RedirectSpec, RespondSpec};

/// The words for what clients are to speak.
pub const SCHEMES: [(&str, RedirectScheme); 2] =
    [("http", RedirectScheme::Http), ("https", RedirectScheme::Https)];

/// The longest body of an answer that stands in the configuration.
const MOST_BODY: usize = 64 << 10;

/// What a body is that does not say so.
const PLAIN: &str = "text/plain; charset=utf-8";

/// `redirect` as somebody wrote it.
#[derive(Debug)]
pub struct RedirectDraft {
    /// Where it is.
    pub at: Span,
    status: Option<Spanned<i128>>,
    scheme: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    port: Option<Spanned<i128>>,
    rewrite: RewriteDraft,
    incomplete: bool,
}

impl RedirectDraft {
    /// Reads it out of its route.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("redirect")?;
        let at = value.span();
        let Some(mut table) = reader::inner("`redirect`", value) else {
            return reader.wrong_type("redirect", value, "a table", EXAMPLE);
        };
        let before = reader.count();
        let mut draft = Self {
            status: table.number(reader, "status"),
            scheme: table.text(reader, "scheme"),
            host: table.text(reader, "host"),
            port: table.number(reader, "port"),
            rewrite: RewriteDraft {
                at: at.clone(),
                prefix: table.text(reader, "prefix"),
                path: table.text(reader, "path"),
            },
            at,
            incomplete: false,
        };
        draft.incomplete = reader.count() > before;
        table.finish(reader);
        Some(draft)
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> RedirectSpec {
        let status = check.value(self.status.as_ref(), |status| values::redirect_status(*status));
        let scheme = check.value(self.scheme.as_ref(), |word| values::one_of("`scheme`", word, &SCHEMES));
        let host = check.value(self.host.as_ref(), |text| values::host_name(text));
        let port = check.value(self.port.as_ref(), |port| values::in_range("`port`", *port, 1..=u16::MAX));
        let path = self.rewrite.check(check);
        let rewrite = self.rewrite.prefix.is_some() || self.rewrite.path.is_some();
        if !rewrite && self.scheme.is_none() && self.host.is_none() && self.port.is_none() && !self.incomplete
        {
            let message = "this sends clients to where they come from";
            check.add(Mistake::missing(self.at.clone(), message).help(EXAMPLE));
        }
        let status = status.unwrap_or(http::StatusCode::TEMPORARY_REDIRECT);
        RedirectSpec { status, scheme, host, port, path }
    }
}

const EXAMPLE: &str = "say what is to be another: { scheme = \"https\", host = \"www.example.com\", port = 8443 }, \
                       and `path` or `prefix`; what is left out stays";

/// `respond` as somebody wrote it.
#[derive(Debug)]
pub struct RespondDraft {
    /// Where it is.
    pub at: Span,
    status: Option<Spanned<i128>>,
    content_type: Option<Spanned<String>>,
    body: Option<Spanned<String>>,
}

impl RespondDraft {
    /// Reads it out of its route.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("respond")?;
        let Some(mut table) = reader::inner("`respond`", value) else {
            let example = "write respond = { status = 503, body = \"back at noon\\n\" }";
            return reader.wrong_type("respond", value, "a table", example);
        };
        let draft = Self {
            at: value.span(),
            status: table.number(reader, "status"),
            content_type: table.text(reader, "type"),
            body: table.text(reader, "body"),
        };
        table.finish(reader);
        Some(draft)
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> RespondSpec {
        let status = check.value(self.status.as_ref(), |status| values::answer_status(*status));
        let status = status.unwrap_or(http::StatusCode::OK);
        let given = check.value(self.content_type.as_ref(), |text| values::field_value(text));
        let body = self.body.as_ref().map(Spanned::get_ref).map(String::as_str).unwrap_or_default();
        if let Some(at) = self.body.as_ref().map(Spanned::span) {
            if body.len() > MOST_BODY {
                let message = format!("this body has {} bytes, and there may be {MOST_BODY}", body.len());
                check.add(Mistake::new(at, message).help("serve it from a backend"));
            } else if status == http::StatusCode::NO_CONTENT && !body.is_empty() {
                let help = "leave out `body`, or write `status = 200`";
                check.add(Mistake::new(at, "an answer with status 204 has no body").help(help));
            }
        }
        if let Some(at) = self.content_type.as_ref().filter(|_| body.is_empty()).map(Spanned::span) {
            let help = "leave out `type`, or write a `body`";
            check.add(Mistake::new(at, "there is no body that could have this type").help(help));
        }
        let plain = (!body.is_empty()).then(|| http::HeaderValue::from_static(PLAIN));
        RespondSpec { status, content_type: given.or(plain), body: body.to_owned().into() }
    }
}
