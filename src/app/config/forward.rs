//! How a route's requests go to backends: `sticky`, `rewrite`, `request_headers` and `mirror`.

use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::groups::Groups;
use super::mistake::Mistake;
use super::reader::{self, Reader, Table};
use super::shape::FieldsDraft;
use super::source::Span;
use super::values;
use crate::l7::spec::{FieldChanges, ForwardSpec, MirrorSpec, PathRewrite, Share, StickySpec};

/// The name of a cookie that was not given one.
pub const COOKIE: &str = "fourseven_backend";

/// What a mirror may have, where nothing is said.
const AT_ONCE: usize = 64;
const MAX_BODY: usize = 64 << 10;
/// And at most.
const MOST_AT_ONCE: usize = 10_000;
const MOST_BODY: usize = 16 << 20;

/// All of it as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    sticky: Option<StickyDraft>,
    rewrite: Option<RewriteDraft>,
    request_headers: FieldsDraft,
    mirror: Option<MirrorDraft>,
}

#[derive(Debug)]
enum StickyDraft {
    Plain(Spanned<bool>),
    Table { at: Span, cookie: Option<Spanned<String>>, max_age: Option<Spanned<String>> },
}

/// `rewrite`, or what a redirect does with the path.
#[derive(Debug)]
pub struct RewriteDraft {
    /// Where it is.
    pub at: Span,
    /// `prefix`.
    pub prefix: Option<Spanned<String>>,
    /// `path`.
    pub path: Option<Spanned<String>>,
}

#[derive(Debug)]
struct MirrorDraft {
    at: Span,
    group: Option<Spanned<String>>,
    percent: Option<Spanned<i128>>,
    at_once: Option<Spanned<i128>>,
    max_body: Option<Spanned<i128>>,
}

impl Draft {
    /// Reads it out of its route.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Self {
        Self {
            sticky: StickyDraft::read(reader, table),
            rewrite: read_rewrite(reader, table),
            request_headers: FieldsDraft::read(reader, table, "request_headers", "`request_headers`"),
            mirror: MirrorDraft::read(reader, table),
        }
    }

    /// The keys that are there, each with its place.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, Span)> {
        let sticky = self.sticky.as_ref().map(|sticky| match sticky {
            StickyDraft::Plain(truth) => truth.span(),
            StickyDraft::Table { at, .. } => at.clone(),
        });
        let rewrite = self.rewrite.as_ref().map(|rewrite| rewrite.at.clone());
        let mirror = self.mirror.as_ref().map(|mirror| mirror.at.clone());
        let all = [
            ("sticky", sticky),
            ("rewrite", rewrite),
            ("request_headers", self.request_headers.at.clone()),
            ("mirror", mirror),
        ];
        all.into_iter().filter_map(|(key, at)| Some((key, at?)))
    }

    /// Checks it. `default` is what the service changes in the fields of requests.
    pub fn check(
        &self,
        check: &mut Check,
        groups: &mut Groups,
        shares: Vec<Share>,
        default: &FieldChanges,
    ) -> ForwardSpec {
        ForwardSpec {
            shares,
            sticky: self.sticky.as_ref().and_then(|sticky| sticky.check(check)),
            rewrite: self.rewrite.as_ref().and_then(|rewrite| rewrite.check(check)),
            request_headers: self.request_headers.check(check).unwrap_or_else(|| default.clone()),
            mirror: self.mirror.as_ref().and_then(|mirror| mirror.check(check, groups)),
        }
    }
}

impl StickyDraft {
    fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("sticky")?;
        if let DeValue::Boolean(truth) = value.get_ref() {
            return Some(Self::Plain(Spanned::new(value.span(), *truth)));
        }
        let Some(mut table) = reader::inner("`sticky`", value) else {
            let example = "write `sticky = true`, or { cookie = \"backend\", max_age = \"1h\" }";
            return reader.wrong_type("sticky", value, "true, false or a table", example);
        };
        let (cookie, max_age) = (table.text(reader, "cookie"), table.duration(reader, "max_age"));
        table.finish(reader);
        Some(Self::Table { at: value.span(), cookie, max_age })
    }

    fn check(&self, check: &mut Check) -> Option<StickySpec> {
        let default = || COOKIE.to_owned();
        match self {
            Self::Plain(truth) => truth.get_ref().then(|| StickySpec { cookie: default(), max_age: None }),
            Self::Table { cookie, max_age, .. } => Some(StickySpec {
                cookie: check
                    .value(cookie.as_ref(), |text| values::cookie_name(text))
                    .unwrap_or_else(default),
                max_age: check.value(max_age.as_ref(), |text| values::duration(text)),
            }),
        }
    }
}

fn read_rewrite(reader: &mut Reader, table: &mut Table<'_>) -> Option<RewriteDraft> {
    let value = table.value("rewrite")?;
    let example =
        "write { prefix = \"/\" } to take the route's path away, or { path = \"/x\" } for another path";
    let Some(mut table) = reader::inner("`rewrite`", value) else {
        return reader.wrong_type("rewrite", value, "a table with `prefix` or `path`", example);
    };
    let (prefix, path) = (table.text(reader, "prefix"), table.text(reader, "path"));
    if !table.has("prefix") && !table.has("path") {
        reader.add(Mistake::missing(value.span(), "this rewrites nothing").help(example));
    }
    table.finish(reader);
    Some(RewriteDraft { at: value.span(), prefix, path })
}

impl RewriteDraft {
    /// Checks it.
    pub fn check(&self, check: &mut Check) -> Option<PathRewrite> {
        let prefix =
            check.value(self.prefix.as_ref(), |text| values::url_path(text)).map(PathRewrite::Prefix);
        let path = check.value(self.path.as_ref(), |text| values::url_path(text)).map(PathRewrite::Whole);
        if let (Some(prefix), Some(path)) = (&self.prefix, &self.path) {
            let message = "a path can become this, or its beginning can, and not both";
            let mistake = Mistake::new(path.span(), message).also(prefix.span(), "its beginning");
            check.add(mistake.help("leave out `path` or `prefix`"));
        }
        prefix.or(path)
    }
}

impl MirrorDraft {
    fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Self> {
        let value = table.value("mirror")?;
        let at = value.span();
        if let Some(group) = reader::text(value) {
            return Some(Self { at, group: Some(group), percent: None, at_once: None, max_body: None });
        }
        let example = "write the name of a `[backends.NAME]`, or { group = \"shadow\", percent = 10 }";
        let Some(mut table) = reader::inner("`mirror`", value) else {
            return reader.wrong_type(
                "mirror",
                value,
                "the name of a group, or a table with `group`",
                example,
            );
        };
        let draft = Self {
            at: at.clone(),
            group: table.text(reader, "group"),
            percent: table.number(reader, "percent"),
            at_once: table.number(reader, "at_once"),
            max_body: table.number(reader, "max_body"),
        };
        if draft.group.is_none() && !table.has("group") {
            reader.add(Mistake::missing(at, "this mirror has no group").help(example));
        }
        table.finish(reader);
        Some(draft)
    }

    fn check(&self, check: &mut Check, groups: &mut Groups) -> Option<MirrorSpec> {
        let percent =
            check.value(self.percent.as_ref(), |percent| values::in_range("`percent`", *percent, 1..=100));
        let at_once = check
            .value(self.at_once.as_ref(), |number| values::in_range("`at_once`", *number, 1..=MOST_AT_ONCE));
        let max_body = check
            .value(self.max_body.as_ref(), |bytes| values::in_range("`max_body`", *bytes, 0..=MOST_BODY));
        let group = groups.route(check, self.group.as_ref()?)?;
        Some(MirrorSpec {
            group,
            percent: percent.unwrap_or(100),
            at_once: at_once.unwrap_or(AT_ONCE),
            max_body: max_body.unwrap_or(MAX_BODY),
        })
    }
}
