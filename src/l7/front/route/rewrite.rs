//! What becomes of a path: a prefix of it, or all of it, becomes another.
//!
//! A route is found by what a path means (see `path`), and so that is what is rewritten: a path that is changed is sent in its
//! normal form. One that is not changed is sent as it came.

use http::uri::PathAndQuery;

use crate::l7::spec::{PathPattern, PathRewrite};

/// The path and query that a request goes on with. `normal` is its path in normal form, which the route's own pattern fits.
pub(in crate::l7::front) fn rewritten(
    rewrite: &PathRewrite,
    route: &PathPattern,
    normal: &str,
    query: Option<&str>,
) -> Option<PathAndQuery> {
    let path = match rewrite {
        PathRewrite::Whole(path) => path.clone(),
        PathRewrite::Prefix(prefix) => {
            let rest = match route {
                PathPattern::Exact(_) => "",
                // What the route stands for may be written with escapes there, and is not so here.
                PathPattern::Prefix(own) => {
                    let own = super::super::path::normal(own).ok()?;
                    normal.strip_prefix(own.trim_end_matches('/'))?
                }
            };
            match (prefix.trim_end_matches('/'), rest) {
                ("", "") => "/".to_owned(),
                // An exact path, or the prefix itself: as it was written, with its slash or without.
                (_, "") => prefix.clone(),
                (prefix, rest) => format!("{prefix}{rest}"),
            }
        }
    };
    let whole = match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(whole).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_or_all_of_it_becomes_another() {
        let prefix = |text: &str| PathPattern::Prefix(text.to_owned());
        let exact = |text: &str| PathPattern::Exact(text.to_owned());
        let to = |text: &str| PathRewrite::Prefix(text.to_owned());
        let whole = |text: &str| PathRewrite::Whole(text.to_owned());
        let cases = [
            (to("/"), prefix("/api"), "/api/x", None, "/x"),
            (to("/"), prefix("/api/"), "/api/x/", Some("q=1"), "/x/?q=1"),
            (to("/"), prefix("/api"), "/api", None, "/"),
            (to("/"), prefix("/api"), "/api/", Some(""), "/?"),
            (to("/v2"), prefix("/api"), "/api/x", None, "/v2/x"),
            (to("/v2/"), prefix("/api"), "/api/x", None, "/v2/x"),
            (to("/v2"), prefix("/api"), "/api", None, "/v2"),
            (to("/v2"), prefix("/"), "/x", None, "/v2/x"),
            (to("/v2"), prefix("/%61pi"), "/api/x%2Fy", None, "/v2/x%2Fy"),
            (to("/"), prefix("/api"), "/api//host/x", None, "//host/x"),
            (to("/new"), exact("/old"), "/old", Some("a=b"), "/new?a=b"),
            (whole("/new"), prefix("/old"), "/old/x", Some("a=b"), "/new?a=b"),
        ];
        for (rewrite, route, path, query, want) in cases {
            let got = rewritten(&rewrite, &route, path, query);
            assert_eq!(got.as_ref().map(PathAndQuery::as_str), Some(want), "{rewrite:?} {route:?} {path}");
        }
    }
}
