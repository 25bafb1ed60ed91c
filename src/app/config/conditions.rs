//! What a route asks of requests: `path`, `method`, `header`, `query` and `cookie`.

use std::collections::HashMap;

use http::HeaderName;
use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::mistake::{Mistake, Wrong};
use super::reader::{self, Reader, Table};
use super::source::{Span, quoted};
use super::values;
use crate::l7::spec::{Condition, PathPattern, ValuePattern};

/// All of them as somebody wrote them.
#[derive(Debug, Default)]
pub struct Draft {
    path: Option<PathDraft>,
    method: Vec<Spanned<String>>,
    header: Vec<(Spanned<String>, ValuePattern)>,
    query: Vec<(Spanned<String>, ValuePattern)>,
    cookie: Vec<(Spanned<String>, ValuePattern)>,
}

/// `path`.
#[derive(Debug)]
enum PathDraft {
    Prefix(Spanned<String>),
    Exact(Spanned<String>),
}

impl Draft {
    /// Reads them out of their route.
    pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Self {
        Self {
            path: read_path(reader, table),
            method: read_methods(reader, table),
            header: pairs(reader, table, "header", "the `header` of a route"),
            query: pairs(reader, table, "query", "the `query` of a route"),
            cookie: pairs(reader, table, "cookie", "the `cookie` of a route"),
        }
    }

    /// The path that it is for; `None` where that is wrong.
    pub fn path(&self, check: &mut Check) -> Option<PathPattern> {
        match &self.path {
            Some(PathDraft::Prefix(path)) => {
                check.value(Some(path), |text| values::url_path(text)).map(PathPattern::Prefix)
            }
            Some(PathDraft::Exact(path)) => {
                check.value(Some(path), |text| values::url_path(text)).map(PathPattern::Exact)
            }
            None => Some(PathPattern::Prefix("/".to_owned())),
        }
    }

    /// All else that must hold; `None` where any of it is wrong.
    pub fn conditions(&self, check: &mut Check) -> Option<Vec<Condition>> {
        let mut conditions = Vec::new();
        let mut right = true;
        if !self.method.is_empty() {
            let methods =
                self.method.iter().filter_map(|word| check.value(Some(word), |text| values::method(text)));
            let mut methods: Vec<_> = methods.collect();
            right &= methods.len() == self.method.len();
            methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            methods.dedup();
            conditions.push(Condition::Method(methods));
        }
        let mut seen: HashMap<HeaderName, Span> = HashMap::new();
        for (name, value) in &self.header {
            let Some(field) = check.value(Some(name), |text| values::field_name(text)) else {
                right = false;
                continue;
            };
            if let Some(first) = seen.insert(field.clone(), name.span()) {
                twice(check, name, first);
            }
            conditions.push(Condition::Header(field, value.clone()));
        }
        for (name, value) in &self.query {
            conditions.push(Condition::Query(name.get_ref().clone(), value.clone()));
        }
        for (name, value) in &self.cookie {
            let cookie = check.value(Some(name), |text| values::cookie_name(text));
            right &= cookie.is_some();
            conditions.extend(cookie.map(|cookie| Condition::Cookie(cookie, value.clone())));
        }
        right.then_some(conditions)
    }
}

/// Notes a field that is there twice, in whatever case.
pub fn twice(check: &mut Check, name: &Spanned<String>, first: Span) {
    let message = format!("the field {} is there twice: case does not matter", quoted(name.get_ref()));
    check.add(Mistake::new(name.span(), message).also(first, "first here").help("leave one out"));
}

fn read_path(reader: &mut Reader, table: &mut Table<'_>) -> Option<PathDraft> {
    let value = table.value("path")?;
    if let Some(text) = reader::text(value) {
        return Some(PathDraft::Prefix(text));
    }
    let example = "write \"/v1/\" for all that begins so, or { exact = \"/login\" } for one path";
    let Some(mut table) = reader::inner("the `path` of a route", value) else {
        return reader.wrong_type("path", value, "a string or a table", example);
    };
    let (exact, prefix) = (table.text(reader, "exact"), table.text(reader, "prefix"));
    match (table.place("exact"), table.place("prefix")) {
        (None, None) => reader.add(Mistake::missing(value.span(), "this path says nothing").help(example)),
        (Some(exact), Some(prefix)) => {
            let message = "a route is for one path or for all that begins so, and not for both";
            reader.add(Mistake::new(prefix, message).also(exact, "one path").help("leave out one of both"));
        }
        (Some(_), None) | (None, Some(_)) => {}
    }
    table.finish(reader);
    exact.map(PathDraft::Exact).or(prefix.map(PathDraft::Prefix))
}

fn read_methods(reader: &mut Reader, table: &mut Table<'_>) -> Vec<Spanned<String>> {
    let Some(value) = table.value("method") else { return Vec::new() };
    let help = "write method = \"POST\" or method = [\"GET\", \"POST\"]";
    if let Some(text) = reader::text(value) {
        return vec![text];
    }
    let DeValue::Array(items) = value.get_ref() else {
        reader.wrong_type::<()>("method", value, "a string or a list of strings", help);
        return Vec::new();
    };
    if items.is_empty() {
        let message = "a route for no method takes no request";
        reader.add(Mistake::new(value.span(), message).help(format!("{help}; for all leave it out")));
    }
    let texts = items.iter().filter_map(|item| {
        reader::text(item)
            .or_else(|| reader.wrong_type("method", item, "a string or a list of strings", help))
    });
    texts.collect()
}

/// Names with what their values must be.
fn pairs(
    reader: &mut Reader,
    table: &mut Table<'_>,
    key: &'static str,
    what: &'static str,
) -> Vec<(Spanned<String>, ValuePattern)> {
    let Some(value) = table.value(key) else { return Vec::new() };
    let example = format!("write {key} = {{ name = \"value\" }}, or {{ name = true }} for any value");
    let Some(inner) = reader::inner(what, value) else {
        reader.wrong_type::<()>(key, value, "a table", &example);
        return Vec::new();
    };
    let mut pairs = Vec::new();
    for (name, value) in inner.entries() {
        pairs.extend(pattern(reader, value).map(|pattern| (name, pattern)));
    }
    pairs
}

fn pattern<'a>(reader: &mut Reader, value: &'a Spanned<DeValue<'a>>) -> Option<ValuePattern> {
    let wanted = "true, a string, or a table with `prefix`";
    let example = "write true for any value, \"x\" for this one, { prefix = \"x\" } for all that begin so";
    if let Some(text) = reader::text(value) {
        return Some(ValuePattern::Exact(text.into_inner()));
    }
    match value.get_ref() {
        DeValue::Boolean(true) => return Some(ValuePattern::Present),
        DeValue::Boolean(false) => {
            let wrong = Wrong::new("a route cannot ask for something not to be there").help(
                "write a route for what is there, and leave this one for the rest: the one that asks for more is first",
            );
            reader.add(wrong.at(value.span()));
            return None;
        }
        _ => {}
    }
    let Some(mut table) = reader::inner("a condition", value) else {
        return reader.wrong_type("value", value, wanted, example);
    };
    let prefix = table.text(reader, "prefix");
    if prefix.is_none() && !table.has("prefix") {
        reader.add(Mistake::missing(value.span(), "this condition says nothing").help(example));
    }
    table.finish(reader);
    prefix.map(|prefix| ValuePattern::Prefix(prefix.into_inner()))
}
