//! One request, over all its tries: what is sent, and what a try that failed means.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};

use super::body::{Client, Outgoing, Repeat, Source};
use super::lease::{Handle, Lease};
use super::open::within;
use super::wire::{Reuse, Sharing};
use crate::l7::exchange::{Origin, RequestBody};

/// A request, and what is needed to send it again.
pub(super) struct Call {
    head: Parts,
    /// `None` where there is no body.
    source: Option<Arc<Source>>,
    repeat: Repeat,
}

/// What became of a try that brought no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing of the request has left, or the backend said that it has not looked at it: anybody may have it.
    Unsent,
    /// The backend has turned it away, unread, as one too many.
    Refused,
    /// It may have been acted upon, and no byte of an answer has come.
    Unanswered,
    /// An answer began, and broke off.
    CutOff,
    /// What came is not HTTP.
    Garbled,
    /// The client is gone.
    Client,
    /// It took too long.
    Late,
}

impl Call {
    pub(super) fn new(request: Request<RequestBody>) -> Self {
        let (mut head, body) = request.into_parts();
        let repeat = if head.method.is_idempotent() { Repeat::Allowed } else { Repeat::Forbidden };
        let source = (!body.is_end_stream()).then(|| Source::new(body, repeat));
        // `*` and paths stand for themselves in HTTP/1.1; the authority moves to the Host field (RFC 9112 §3.2).
        if !head.headers.contains_key(HOST)
            && head.method != Method::CONNECT
            && let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        Self { head, source, repeat }
    }

    /// Whether it asks for a WebSocket, which HTTP/2 offers in a way of its own (RFC 8441).
    pub(super) fn wants_websocket(&self) -> bool {
        self.head.headers.get(UPGRADE).is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(b"websocket"))
    }

    /// Whether it may be sent again though it may have been acted upon.
    pub(super) fn may_repeat(&self) -> bool {
        self.repeat == Repeat::Allowed && self.is_whole()
    }

    /// Whether all of it is there to be sent again.
    pub(super) fn is_whole(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.is_whole())
    }

    /// Whether all of it has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.is_sent())
    }

    /// The answer has come: there will be no other try.
    pub(super) fn let_go(&self) {
        if let Some(source) = &self.source {
            source.let_go();
        }
    }

    fn client(&self) -> Client {
        self.source.as_ref().map(|source| source.client()).unwrap_or_default()
    }

    /// The request as this upstream needs it.
    fn request(&self, lease: &Lease) -> Request<Outgoing> {
        let body = match &self.source {
            Some(source) => source.attempt(&lease.upstream),
            None => Outgoing::Empty,
        };
        let mut head = self.head.clone();
        match lease.upstream.sharing {
            Sharing::OneByOne => {
                head.version = Version::HTTP_11;
                if head.method != Method::CONNECT && head.uri.authority().is_some() {
                    let path = head.uri.path_and_query().cloned();
                    head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
                }
                if lease.upstream.reuse == Reuse::Single && !head.headers.contains_key(CONNECTION) {
                    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
            Sharing::Streams => {
                head.version = Version::HTTP_2;
                // RFC 9113 §8.3.1: the authority is in the URI.
                head.headers.remove(HOST);
            }
        }
        Request::from_parts(head, body)
    }

    /// Sends it, and waits for the head of the answer.
    pub(super) async fn send(
        &self,
        lease: &mut Lease,
        patience: Duration,
    ) -> Result<Response<Incoming>, Lost> {
        if !lease.ready().await {
            return Err(Lost::Unsent);
        }
        let request = self.request(lease);
        lease.sends(self.source.clone());
        let upstream = Arc::clone(&lease.upstream);
        // The answer's time runs while nothing moves: a long upload that goes on is not a slow answer.
        let mut frames = 0;
        let more = || std::mem::replace(&mut frames, self.client().frames) != self.client().frames;
        let outcome = match lease.send() {
            Some(Handle::Http1(sender)) => {
                within(pin!(sender.try_send_request(request)), patience, more).await
            }
            Some(Handle::Http2(sender)) => {
                within(pin!(sender.try_send_request(request)), patience, more).await
            }
            None => return Err(Lost::Unsent),
        };
        match outcome {
            // hyper goes by the coding and hands both on. Whoever goes by the length would take the answer to end early, or
            // its rest for the next one (RFC 9112 §6.3).
            Some(Ok(response))
                if [CONTENT_LENGTH, TRANSFER_ENCODING]
                    .iter()
                    .all(|it| response.headers().contains_key(it)) =>
            {
                Err(Lost::Garbled)
            }
            Some(Ok(response)) => Ok(response),
            None if self.client().awaited => Err(Lost::Client),
            None => Err(Lost::Late),
            Some(Err(_)) if self.client().gone => Err(Lost::Client),
            Some(Err(error)) if error.message().is_some() => Err(Lost::Unsent),
            Some(Err(error)) => Err(match upstream.sharing {
                Sharing::Streams => of_stream(&error.into_error()),
                Sharing::OneByOne if !upstream.left() => Lost::Unsent,
                Sharing::OneByOne => {
                    let error = error.into_error();
                    match (error.is_parse(), upstream.answered()) {
                        (true, _) => Lost::Garbled,
                        (false, true) => Lost::CutOff,
                        (false, false) => Lost::Unanswered,
                    }
                }
            }),
        }
    }
}

/// What the end of a stream means.
fn of_stream(error: &hyper::Error) -> Lost {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return match error.reason() {
                // RFC 9113 §6.8: the streams behind the last one that GOAWAY names were not looked at, and h2 gives this
                // error to those only.
                _ if error.is_go_away() && error.is_remote() => Lost::Unsent,
                // §8.7.
                Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Lost::Refused,
                Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::COMPRESSION_ERROR) if error.is_library() => {
                    Lost::Garbled
                }
                _ => Lost::Unanswered,
            };
        }
        cause = error.source();
    }
    if error.is_canceled() { Lost::Unsent } else { Lost::Unanswered }
}

/// Whether a try that found its upstream dead before anything left was nobody's fault.
pub(super) fn is_stale(lost: Lost, origin: Origin) -> bool {
    lost == Lost::Unsent && origin == Origin::Reused
}
