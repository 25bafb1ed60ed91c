//! Why upstreams are opened and dropped: closed lists, a word and a counter each.

use crate::l7::exchange::Failure;
use crate::l7::tls::BackendCause;
use crate::l7::words::words;
use crate::packet::Endpoint;

words! {
    /// Why an upstream was opened.
    OpenReason {
        /// There was none to this backend.
        Cold = "cold",
        /// All that there were had requests in flight, or live on other workers.
        NoneIdle = "none_idle",
        /// The service opens one for each request.
        ModeNew = "mode_new",
        /// The backend is told about the client, so that no other client's upstream would do.
        ProxyProtocol = "proxy_protocol",
        /// The one that was taken from the pool was found closed before the request left.
        ReplacedStale = "replaced_stale",
        /// The request was tried before.
        Retry = "retry",
        /// The request is with another backend too, which has not answered yet.
        Hedge = "hedge",
    }
}

words! {
    /// Why an upstream was dropped.
    DropReason {
        /// Nobody had use for it in time.
        IdleTime = "idle_time",
        /// As many were idle as may be.
        IdleCount = "idle_count",
        /// It was as old as one may become.
        Age = "age",
        /// It had served as many requests as one may.
        Uses = "uses",
        /// It was opened for one request only, which is over.
        SingleUse = "single_use",
        /// The backend closed it.
        ClosedByBackend = "closed_by_backend",
        /// The backend sent bytes that nobody had asked for.
        UnsolicitedBytes = "unsolicited_bytes",
        /// It was reset, or what came was not HTTP.
        Failed = "failed",
        /// The head of the answer took too long.
        TimedOut = "timed_out",
        /// The next bytes of the answer's body took too long.
        AnswerTimedOut = "answer_timed_out",
        /// The client lost interest before the answer was whole.
        RequestAborted = "request_aborted",
        /// It became the bytes of an upgraded connection, which is over.
        Upgraded = "upgraded",
        /// It was closed so that another backend's could be opened.
        MadeRoom = "made_room",
        /// Its backend went down.
        BackendDown = "backend_down",
        /// The balancer ends.
        Shutdown = "shutdown",
    }
}

/// One backend's upstreams and requests, counted since the start and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounts {
    /// Upstreams opened, by [`OpenReason`].
    pub opened: [u64; OpenReason::COUNT],
    /// Requests that were given an upstream which had served others.
    pub reused: u64,
    /// Upstreams dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::COUNT],
    /// Upstreams that could not be opened.
    pub unopened: u64,
    /// Tries: requests that were given an upstream.
    pub requests: u64,
    /// Those that brought no answer's head.
    pub failures: u64,
    /// Upstreams now, those being opened included.
    pub live: usize,
    /// Those of them that are idle.
    pub idle: usize,
    /// Requests now in flight.
    pub in_flight: usize,
}

/// One backend in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendReport {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Whether it takes requests, as far as its traffic has told.
    pub up: bool,
    /// What was counted.
    pub counts: BackendCounts,
}

/// One group in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// What people call it.
    pub name: String,
    /// Its backends, by their places.
    pub backends: Vec<BackendReport>,
    /// Requests that came.
    pub requests: u64,
    /// Requests that were tried again.
    pub retries: u64,
    /// Requests that could have been tried again, had the budget allowed it.
    pub retries_denied: u64,
    /// Requests that were sent to a second backend before the first had answered.
    pub hedges: u64,
    /// Those of them that the second one answered.
    pub hedges_won: u64,
    /// Requests that had to wait for an upstream.
    pub waited: u64,
    /// Requests that wait now.
    pub waiting: usize,
    /// Requests that failed, by [`Failure`].
    pub failures: [u64; Failure::COUNT],
    /// Handshakes with backends that failed, by [`BackendCause`].
    pub tls_failures: [u64; BackendCause::COUNT],
}

impl BackendCounts {
    /// Upstreams opened, for whatever reason.
    pub fn opened(&self) -> u64 {
        self.opened.iter().sum()
    }

    /// Upstreams opened for this reason.
    pub fn opened_for(&self, reason: OpenReason) -> u64 {
        self.opened.get(reason as usize).copied().unwrap_or_default()
    }

    /// Upstreams dropped for this reason.
    pub fn dropped_for(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }

    pub(super) fn note_opened(&mut self, reason: OpenReason) {
        bump(&mut self.opened, reason as usize);
    }

    pub(super) fn note_dropped(&mut self, reason: DropReason) {
        bump(&mut self.dropped, reason as usize);
    }
}

/// One more at this place.
pub(super) fn bump(counters: &mut [u64], place: usize) {
    if let Some(counter) = counters.get_mut(place) {
        *counter = counter.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique() {
        let opened: HashSet<_> = OpenReason::ALL.iter().map(|reason| reason.word()).collect();
        let dropped: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!((opened.len(), dropped.len()), (OpenReason::COUNT, DropReason::COUNT));
    }
}
