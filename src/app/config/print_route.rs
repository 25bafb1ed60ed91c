//! Routes as TOML that means the same. What a route does not have is left out.

use std::fmt::{self, Write};

use http::header::{HeaderName, HeaderValue};

use super::answers::SCHEMES;
use super::print::{text, word};
use super::values::{written, written_host, written_rate};
use crate::l7::spec::{
    Action, Condition, FieldChanges, ForwardSpec, GroupId, GroupSpec, PathPattern, PathRewrite, Rate,
    RateLimits, RedirectSpec, RespondSpec, RouteSpec, ValuePattern,
};

/// One route.
pub fn route(f: &mut fmt::Formatter<'_>, route: &RouteSpec, groups: &[GroupSpec]) -> fmt::Result {
    writeln!(f, "\n[[service.route]]\nhost     = \"{}\"", written_host(&route.host))?;
    match &route.path {
        PathPattern::Prefix(path) => writeln!(f, "path     = \"{path}\"")?,
        PathPattern::Exact(path) => writeln!(f, "path     = {{ exact = \"{path}\" }}")?,
    }
    conditions(f, &route.conditions)?;
    match &route.action {
        Action::Forward(spec) => forward(f, spec, groups)?,
        Action::Redirect(spec) => redirect(f, spec)?,
        Action::Respond(spec) => respond(f, spec)?,
    }
    limit(f, &route.limits)?;
    fields(f, "response_headers", &route.response_headers)?;
    if let Some(compress) = &route.compress {
        let codings: Vec<_> = compress.codings.iter().map(|coding| format!("\"{coding}\"")).collect();
        let (codings, least) = (codings.join(", "), compress.min_bytes);
        writeln!(f, "compress = {{ codings = [{codings}], min_bytes = {least} }}")?;
    }
    Ok(())
}

/// `limit`, of a route or a service.
pub fn limit(f: &mut fmt::Formatter<'_>, limits: &RateLimits) -> fmt::Result {
    let said = |key: &str, rate: &Option<Rate>| {
        let rate = rate.as_ref()?;
        Some(format!("{key} = {{ rate = \"{}\", burst = {} }}", written_rate(*rate), rate.burst))
    };
    let said: Vec<_> =
        [said("source", &limits.source), said("total", &limits.total)].into_iter().flatten().collect();
    if said.is_empty() { Ok(()) } else { writeln!(f, "limit    = {{ {} }}", said.join(", ")) }
}

fn conditions(f: &mut fmt::Formatter<'_>, conditions: &[Condition]) -> fmt::Result {
    let mut tables = [("header", Vec::new()), ("query", Vec::new()), ("cookie", Vec::new())];
    for condition in conditions {
        let (place, name, value) = match condition {
            Condition::Method(methods) => {
                let words: Vec<_> = methods.iter().map(|method| format!("\"{method}\"")).collect();
                writeln!(f, "method   = [{}]", words.join(", "))?;
                continue;
            }
            Condition::Header(name, value) => (0, name.as_str(), value),
            Condition::Query(name, value) => (1, name.as_str(), value),
            Condition::Cookie(name, value) => (2, name.as_str(), value),
        };
        let value = match value {
            ValuePattern::Present => "true".to_owned(),
            ValuePattern::Exact(whole) => text(whole),
            ValuePattern::Prefix(start) => format!("{{ prefix = {} }}", text(start)),
        };
        if let Some((_, pairs)) = tables.get_mut(place) {
            pairs.push(format!("{} = {value}", text(name)));
        }
    }
    for (key, pairs) in tables.iter().filter(|(_, pairs)| !pairs.is_empty()) {
        writeln!(f, "{key:8} = {{ {} }}", pairs.join(", "))?;
    }
    Ok(())
}

fn forward(f: &mut fmt::Formatter<'_>, forward: &ForwardSpec, groups: &[GroupSpec]) -> fmt::Result {
    let name = |group: GroupId| groups.get(group.0).map(|group| group.name.as_str()).unwrap_or_default();
    match forward.shares.as_slice() {
        [share] if share.weight == 1 => writeln!(f, "backends = \"{}\"", name(share.group))?,
        shares => {
            let share = |share: &crate::l7::spec::Share| {
                format!("{{ group = \"{}\", weight = {} }}", name(share.group), share.weight)
            };
            writeln!(f, "backends = [{}]", shares.iter().map(share).collect::<Vec<_>>().join(", "))?;
        }
    }
    if let Some(sticky) = &forward.sticky {
        let age = sticky.max_age.map(|age| format!(", max_age = \"{}\"", written(age))).unwrap_or_default();
        writeln!(f, "sticky   = {{ cookie = {}{age} }}", text(&sticky.cookie))?;
    }
    if let Some(path) = &forward.rewrite {
        writeln!(f, "rewrite  = {{ {} }}", rewrite(path))?;
    }
    fields(f, "request_headers", &forward.request_headers)?;
    if let Some(mirror) = &forward.mirror {
        let (group, percent) = (name(mirror.group), mirror.percent);
        let (at_once, body) = (mirror.at_once, mirror.max_body);
        let bounds = format!("at_once = {at_once}, max_body = {body}");
        writeln!(f, "mirror   = {{ group = \"{group}\", percent = {percent}, {bounds} }}")?;
    }
    Ok(())
}

fn rewrite(path: &PathRewrite) -> String {
    match path {
        PathRewrite::Prefix(prefix) => format!("prefix = \"{prefix}\""),
        PathRewrite::Whole(path) => format!("path = \"{path}\""),
    }
}

fn redirect(f: &mut fmt::Formatter<'_>, redirect: &RedirectSpec) -> fmt::Result {
    let mut said = format!("status = {}", redirect.status.as_u16());
    if let Some(scheme) = redirect.scheme {
        write!(said, ", scheme = \"{}\"", word(&SCHEMES, scheme))?;
    }
    if let Some(host) = &redirect.host {
        write!(said, ", host = \"{host}\"")?;
    }
    if let Some(port) = redirect.port {
        write!(said, ", port = {port}")?;
    }
    if let Some(path) = &redirect.path {
        write!(said, ", {}", rewrite(path))?;
    }
    writeln!(f, "redirect = {{ {said} }}")
}

fn respond(f: &mut fmt::Formatter<'_>, respond: &RespondSpec) -> fmt::Result {
    let mut said = format!("status = {}", respond.status.as_u16());
    if let Some(value) = &respond.content_type {
        write!(said, ", type = {}", value_text(value))?;
    }
    if !respond.body.is_empty() {
        write!(said, ", body = {}", text(&String::from_utf8_lossy(&respond.body)))?;
    }
    writeln!(f, "respond  = {{ {said} }}")
}

fn fields(f: &mut fmt::Formatter<'_>, key: &str, changes: &FieldChanges) -> fmt::Result {
    if changes.is_empty() {
        return Ok(());
    }
    let mut said = Vec::new();
    if !changes.remove.is_empty() {
        let names: Vec<_> = changes.remove.iter().map(|name| text(name.as_str())).collect();
        said.push(format!("remove = [{}]", names.join(", ")));
    }
    let lines = |lines: &[(HeaderName, HeaderValue)]| {
        let line = |(name, value): &(HeaderName, HeaderValue)| {
            format!("{} = {}", text(name.as_str()), value_text(value))
        };
        lines.iter().map(line).collect::<Vec<_>>().join(", ")
    };
    for (key, changed) in [("set", &changes.set), ("add", &changes.add)] {
        if !changed.is_empty() {
            said.push(format!("{key} = {{ {} }}", lines(changed)));
        }
    }
    writeln!(f, "{key} = {{ {} }}", said.join(", "))
}

/// Values come out of text, and so they are one.
fn value_text(value: &HeaderValue) -> String {
    text(value.to_str().unwrap_or_default())
}
