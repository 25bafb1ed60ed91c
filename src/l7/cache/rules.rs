//! What RFC 9111 allows a shared cache: which answers may be kept, how long they are fresh, and when they may be given again.
//!
//! All of it is plain functions of heads and times. Where the RFC leaves a choice, or says SHOULD, and we do otherwise:
//!
//! | | the RFC | here |
//! |---|---|---|
//! | `Age` that is no single number | the first of a list counts, what cannot be read SHOULD be ignored (§5.1) | of unknown age: not fresh. Somebody has kept it, and does not say how long |
//! | `Cache-Control` that cannot be read | consider the answer stale (§4.2.1) | so |
//! | heuristic freshness | a tenth of the time since `Last-Modified` (§4.2.2) | so, a day at most |
//! | an answer without freshness or validator | may be stored where its status allows (§3) | is not: it could never be given |

use std::time::Duration;

use http::header::{AGE, AUTHORIZATION, DATE, ETAG, EXPIRES, HeaderMap, LAST_MODIFIED, VARY};
use hyper::StatusCode;

use super::clock::{Moment, date};
use super::directives::{OfAnswer, OfRequest, Scope, Seconds, element, seconds};
use super::status::{Detail, Handling};

/// The longest heuristic lifetime.
const MOST_HEURISTIC: Duration = Duration::from_hours(24);

/// What is known of a stored answer's freshness.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub said: OfAnswer,
    lifetime: Duration,
    /// `corrected_initial_age` (RFC 9111 §4.2.3).
    initial_age: Duration,
    /// Whether that can be trusted.
    age_known: bool,
    /// Whether it came with an age.
    pub aged: bool,
    /// `response_time`.
    received: Moment,
}

/// What may be done with a stored answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Give it: it is fresh.
    Fresh,
    /// Give it, though it is stale.
    Stale(Detail),
    /// Ask the backend first.
    Validate(Handling, Option<Detail>),
}

impl Policy {
    /// Of an answer that was asked for and came at these times.
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, asked: Moment, received: Moment) -> Self {
        let said = OfAnswer::read(headers);
        let dated = headers.get(DATE).and_then(date);
        // Whole seconds: a `Date` has no more.
        let apparent = dated.map_or(Duration::ZERO, |dated| {
            Duration::from_secs(received.as_secs().saturating_sub(dated.as_secs()))
        });
        let (age, age_known) = match age(headers) {
            Ok(age) => (age.map_or(Duration::ZERO, Duration::from_secs), true),
            Err(Unknown) => (Duration::ZERO, false),
        };
        let corrected = age.saturating_add(received.saturating_sub(asked));
        Self {
            lifetime: lifetime(status, headers, &said, dated.unwrap_or(received)),
            initial_age: apparent.max(corrected),
            age_known,
            aged: headers.contains_key(AGE),
            received,
            said,
        }
    }

    /// `current_age` (RFC 9111 §4.2.3).
    pub(super) fn age(&self, now: Moment) -> Duration {
        self.initial_age.saturating_add(now.saturating_sub(self.received))
    }

    /// Seconds of freshness that are left, negative when it is over.
    pub(super) fn ttl(&self, now: Moment) -> i64 {
        let (lifetime, age) = (self.lifetime.as_secs(), self.age(now).as_secs());
        let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        whole(lifetime).saturating_sub(whole(age))
    }

    fn is_fresh(&self, now: Moment) -> bool {
        self.age_known && self.lifetime > self.age(now)
    }

    /// For how long it has been stale.
    fn staleness(&self, now: Moment) -> Duration {
        if self.age_known { self.age(now).saturating_sub(self.lifetime) } else { Duration::MAX }
    }

    /// Whether it can ever be given without asking.
    fn has_time(&self) -> bool {
        let stale = self.said.stale_while_revalidate.max(self.said.stale_if_error);
        (self.age_known && self.lifetime > self.initial_age) || stale > 0
    }

    /// What may be done with it for a request (RFC 9111 §4).
    pub(super) fn decide(&self, request: &OfRequest, now: Moment) -> Use {
        if self.said.no_cache == Scope::All {
            return Use::Validate(Handling::Stale, Some(Detail::NoCache));
        }
        if request.no_cache {
            return Use::Validate(Handling::Request, Some(Detail::RequestNoCache));
        }
        let age = self.age(now);
        if request.max_age.is_some_and(|most| age.as_secs() > most || most == 0) {
            return Use::Validate(Handling::Request, Some(Detail::RequestMaxAge));
        }
        let fresh = self.is_fresh(now);
        if fresh {
            // §5.2.1.3: it wants to be fresh for so long still.
            if request.min_fresh > 0
                && self.lifetime.saturating_sub(age) < Duration::from_secs(request.min_fresh)
            {
                return Use::Validate(Handling::Request, Some(Detail::RequestMinFresh));
            }
            return Use::Fresh;
        }
        if self.said.forbids_stale() || request.min_fresh > 0 {
            return Use::Validate(Handling::Stale, None);
        }
        let staleness = self.staleness(now);
        let within = |seconds: Seconds| staleness <= Duration::from_secs(seconds);
        if request.max_stale.is_some_and(|most| most == Seconds::MAX && self.age_known || within(most)) {
            return Use::Stale(Detail::MaxStale);
        }
        if self.said.stale_while_revalidate > 0 && within(self.said.stale_while_revalidate) {
            return Use::Stale(Detail::StaleWhileRevalidate);
        }
        Use::Validate(Handling::Stale, None)
    }

    /// Whether it may be given when asking the backend has failed.
    ///
    /// RFC 9111 §4.2.4 allows it to a cache that is disconnected, here for as long as is configured; RFC 5861 §4 to one that
    /// got an error, for as long as the answer or the request says. Neither may where staleness is forbidden.
    pub(super) fn serves_on_error(
        &self,
        request: &OfRequest,
        disconnected: Option<Duration>,
        now: Moment,
    ) -> bool {
        if self.said.forbids_stale() || request.no_cache || request.max_age.is_some() || request.min_fresh > 0
        {
            return false;
        }
        let allowed = Duration::from_secs(self.said.stale_if_error.max(request.stale_if_error));
        let allowed = allowed.max(disconnected.unwrap_or_default());
        !allowed.is_zero() && self.staleness(now) <= allowed
    }
}

/// Whether an answer to a GET may be stored (RFC 9111 §3), and is worth it.
pub(super) fn storable(
    request: &HeaderMap,
    wish: &OfRequest,
    status: StatusCode,
    headers: &HeaderMap,
    policy: &Policy,
) -> Result<(), Detail> {
    let said = &policy.said;
    if status.is_informational() || [StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
    {
        return Err(Detail::Status);
    }
    // §5.2.2.3: who knows the status may leave `no-store` out of account, others may store nothing.
    if said.must_understand && !is_understood(status) {
        return Err(Detail::Status);
    }
    if said.no_store && !said.must_understand {
        return Err(Detail::NoStore);
    }
    if wish.no_store {
        return Err(Detail::RequestNoStore);
    }
    if said.private == Scope::All {
        return Err(Detail::Private);
    }
    // §3.5.
    let for_others = said.public || said.must_revalidate || said.s_maxage.is_some();
    if request.contains_key(AUTHORIZATION) && !for_others {
        return Err(Detail::Authorization);
    }
    if varies_by_anything(headers) {
        return Err(Detail::VaryStar);
    }
    let explicit =
        said.public || said.max_age.is_some() || said.s_maxage.is_some() || headers.contains_key(EXPIRES);
    if !explicit && !is_heuristic(status) {
        return Err(Detail::Status);
    }
    let validator = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    if validator || policy.has_time() { Ok(()) } else { Err(Detail::NoFreshness) }
}

/// Whether `Vary` has a `*` among its members (RFC 9111 §4.1).
fn varies_by_anything(headers: &HeaderMap) -> bool {
    headers.get_all(VARY).iter().any(|line| {
        let mut rest = line.as_bytes();
        while let Some((member, behind)) = element(rest) {
            if member.trim_ascii() == b"*" {
                return true;
            }
            rest = behind;
        }
        false
    })
}

/// RFC 9111 §4.2.1, in the order that it gives.
fn lifetime(status: StatusCode, headers: &HeaderMap, said: &OfAnswer, dated: Moment) -> Duration {
    if let Some(seconds) = said.s_maxage.or(said.max_age) {
        return Duration::from_secs(seconds);
    }
    let mut expires = headers.get_all(EXPIRES).iter();
    if let Some(first) = expires.next() {
        // §5.3: what is no date is in the past; so is what is said twice.
        let end = date(first).filter(|_| expires.next().is_none());
        return end.map_or(Duration::ZERO, |end| end.saturating_sub(Duration::from_secs(dated.as_secs())));
    }
    match headers.get(LAST_MODIFIED).and_then(date) {
        Some(modified) if is_heuristic(status) || said.public => {
            (dated.saturating_sub(modified) / 10).min(MOST_HEURISTIC)
        }
        _ => Duration::ZERO,
    }
}

/// The age that an answer came with is not to be told.
struct Unknown;

/// The `Age` field, if there is one. Where it is a list, as it must not be, RFC 9111 §5.1 would have the first member
/// counted; to take the answer for one of unknown age is safe whoever wrote the list.
fn age(headers: &HeaderMap) -> Result<Option<Seconds>, Unknown> {
    let mut lines = headers.get_all(AGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => seconds(line.as_bytes()).map(Some).ok_or(Unknown),
        (Some(_), Some(_)) => Err(Unknown),
    }
}

/// RFC 9110 §15.1.
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Statuses of RFC 9110 §15 that mean nothing for a cache but what their class does, beside those above.
fn is_understood(status: StatusCode) -> bool {
    is_heuristic(status)
        || matches!(
            status.as_u16(),
            201 | 202 | 205 | 302 | 303 | 305 | 307 | 400..=403 | 406..=409 | 411..=413 | 415..=417 | 421 | 422 | 426 | 500
                | 502..=505
        )
}
