//! What the cache did with a request, in the words of RFC 9211: the same in `Cache-Status`, logs and counters.
//!
//! `hit` and `fwd` exclude each other (§2.1, §2.2). `ttl` is the freshness that is left, negative once it is over (§2.4).
//! `detail` says why, where the rest does not: why an answer was not stored, why a stale one was given, why one was not looked for.

use std::fmt;

use hyper::StatusCode;

use crate::l7::words::words;

/// How this cache is called in the field (RFC 9211 §2: a name for people, of the hop that added the member).
const NAME: &str = "fourseven";

/// What the cache did with one request. Where there is no cache, there is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatus {
    /// Whether it answered, or why the request went to a backend.
    pub handling: Handling,
    /// What the backend answered with, where the request went there and the client is told something else.
    pub forwarded: Option<StatusCode>,
    /// Seconds of freshness that are left to what was given, if it has any.
    pub ttl: Option<i64>,
    /// Whether the backend's answer is stored.
    pub stored: bool,
    /// Whether this request waited for what another one had fetched.
    pub collapsed: bool,
    /// Why, in more detail.
    pub detail: Option<Detail>,
}

impl CacheStatus {
    /// Nothing more than this.
    pub const fn of(handling: Handling) -> Self {
        Self { handling, forwarded: None, ttl: None, stored: false, collapsed: false, detail: None }
    }

    /// With a reason.
    #[must_use]
    pub const fn because(self, detail: Detail) -> Self {
        Self { detail: Some(detail), ..self }
    }
}

/// As the field's value.
impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        match self.handling {
            Handling::Hit => f.write_str("; hit")?,
            Handling::Nothing => {}
            handling => write!(f, "; fwd={handling}")?,
        }
        if let Some(status) = self.forwarded {
            write!(f, "; fwd-status={}", status.as_u16())?;
        }
        if let Some(ttl) = self.ttl {
            write!(f, "; ttl={ttl}")?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(detail) = self.detail {
            write!(f, "; detail={detail}")?;
        }
        Ok(())
    }
}

words! {
    /// Whether the cache answered, or why the request went to a backend (RFC 9211 §2.2).
    Handling {
        /// It was answered out of the cache.
        Hit = "hit",
        /// Nothing is stored under what was asked for.
        UriMiss = "uri-miss",
        /// What is stored is for other requests, by `Vary`.
        VaryMiss = "vary-miss",
        /// What is stored is stale, or must be revalidated.
        Stale = "stale",
        /// A part is stored, and not the one that was asked for.
        Partial = "partial",
        /// The client wanted something newer than what is stored.
        Request = "request",
        /// The method's answers are not stored.
        Method = "method",
        /// The cache was not asked.
        Bypass = "bypass",
        /// Neither: the cache had nothing, and was not to ask for it, or was told to forget something.
        Nothing = "none",
    }
}

words! {
    /// Why, in more detail.
    Detail {
        /// The route does without the cache.
        RouteOff = "route-off",
        /// The request has a body, or asks for another protocol.
        Unusual = "unusual-request",
        /// The client said `no-store`.
        RequestNoStore = "request-no-store",
        /// The client said `no-cache`.
        RequestNoCache = "request-no-cache",
        /// What is stored is older than the client's `max-age`.
        RequestMaxAge = "request-max-age",
        /// What is stored will not be fresh for the client's `min-fresh`.
        RequestMinFresh = "request-min-fresh",
        /// The client said `only-if-cached`, and there is nothing to give.
        OnlyIfCached = "only-if-cached",
        /// The answer said `no-store`.
        NoStore = "no-store",
        /// The answer said `private`.
        Private = "private",
        /// The answer may be given after revalidation only: it said `no-cache`.
        NoCache = "no-cache",
        /// The request had `Authorization`, and the answer does not say that it is for others as well.
        Authorization = "authorization",
        /// The answer has no freshness, and nothing to validate it by.
        NoFreshness = "no-freshness",
        /// It varies by what no request shows: `Vary: *`.
        VaryStar = "vary-star",
        /// Its status is one that is not stored.
        Status = "status",
        /// It is larger than one answer may be, or there is no room for it.
        TooLarge = "too-large",
        /// It ended early.
        CutOff = "cut-off",
        /// Something was invalidated while it came.
        Invalidated = "invalidated",
        /// Its end is that of the connection: nobody can tell whether it is whole.
        Unframed = "unframed",
        /// A part of something that is not stored was asked for.
        Part = "part",
        /// A stale answer was given while a new one is fetched.
        StaleWhileRevalidate = "stale-while-revalidate",
        /// A stale answer was given, as the backend failed.
        StaleIfError = "stale-if-error",
        /// A stale answer was given, as the client takes it.
        MaxStale = "max-stale",
        /// The backend has said that what is stored is still right.
        Revalidated = "revalidated",
        /// It was to be forgotten.
        Purge = "purge",
        /// It was to be forgotten, by somebody who may not say so.
        PurgeForbidden = "purge-forbidden",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_as_rfc_9211_has_it() {
        let cases = [
            (CacheStatus { ttl: Some(376), ..CacheStatus::of(Handling::Hit) }, "fourseven; hit; ttl=376"),
            (
                CacheStatus { ttl: Some(-12), ..CacheStatus::of(Handling::Hit) }
                    .because(Detail::StaleIfError),
                "fourseven; hit; ttl=-12; detail=stale-if-error",
            ),
            (
                CacheStatus {
                    forwarded: Some(StatusCode::NOT_MODIFIED),
                    stored: true,
                    collapsed: true,
                    ..CacheStatus::of(Handling::Stale)
                },
                "fourseven; fwd=stale; fwd-status=304; stored; collapsed",
            ),
            (CacheStatus::of(Handling::UriMiss), "fourseven; fwd=uri-miss"),
        ];
        for (status, field) in cases {
            assert_eq!(status.to_string(), field);
        }
    }
}
