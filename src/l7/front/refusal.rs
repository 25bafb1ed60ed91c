//! Why a request goes no further than here, and what the client is told about it.
//!
//! Each reason has one word, which is the same in the counters, in the answer's text and in its `Proxy-Status` field
//! (RFC 9209). Answers that are ours are short, in plain text, and never leave a connection open on which it is not
//! certain where the next request begins.

use std::fmt;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode, Version};

use crate::l7::exchange::Failure;
use crate::l7::spec::Reasons;

/// RFC 9209.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why an answer is the balancer's, in debug mode.
const REASON: HeaderName = HeaderName::from_static("fourseven-reason");

/// Declares the enum, the list of all and their words in one place, so that they cannot disagree.
macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident = $word:literal, $status:ident;)+) => {
        /// Why a request is refused before anything of it is forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])+ $name,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The one word for it.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// What the client is told.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)+
                }
            }
        }
    };
}

refusals! {
    /// A line ends in LF alone. RFC 9112 §2.2 allows to take it, but somebody before us may have read the line on.
    BareLf = "bare_lf", BAD_REQUEST;
    /// A CR that no LF follows (RFC 9112 §2.2).
    BareCr = "bare_cr", BAD_REQUEST;
    /// A field goes on in the next line (RFC 9112 §5.2).
    ObsFold = "obs_fold", BAD_REQUEST;
    /// Whitespace between a field's name and its colon (RFC 9112 §5.1).
    SpaceBeforeColon = "space_before_colon", BAD_REQUEST;
    /// A field's name is empty or is not a token, or has no colon behind it.
    BadFieldName = "bad_field_name", BAD_REQUEST;
    /// NUL or another control character in a field's value (RFC 9110 §5.5); in HTTP/2, whitespace around it
    /// (RFC 9113 §8.2.1).
    BadFieldValue = "bad_field_value", BAD_REQUEST;
    /// The request line is not three words with one space between them (RFC 9112 §3).
    BadRequestLine = "bad_request_line", BAD_REQUEST;
    /// The request's target has none of the four forms, or not the one that its method asks for (RFC 9112 §3.2).
    BadTarget = "bad_target", BAD_REQUEST;
    /// `..` leads above the root.
    PathAboveRoot = "path_above_root", BAD_REQUEST;
    /// A version of HTTP that is neither 1.0 nor 1.1 (RFC 9110 §15.6.6).
    BadVersion = "bad_version", HTTP_VERSION_NOT_SUPPORTED;
    /// CONNECT and TRACE are not offered.
    BadMethod = "bad_method", NOT_IMPLEMENTED;
    /// The target is too long.
    TargetTooLong = "target_too_long", URI_TOO_LONG;
    /// The head is too long, or has too many fields.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// Both Content-Length and Transfer-Encoding (RFC 9112 §6.3).
    BothLengths = "both_lengths", BAD_REQUEST;
    /// A Content-Length that is not one number (RFC 9110 §8.6).
    BadContentLength = "bad_content_length", BAD_REQUEST;
    /// Content-Lengths that differ.
    DifferingLengths = "differing_lengths", BAD_REQUEST;
    /// A Transfer-Encoding whose last coding is not `chunked`, or that is chunked twice (RFC 9112 §6.1, §6.3).
    BadTransferEncoding = "bad_transfer_encoding", BAD_REQUEST;
    /// A coding under `chunked`. Nobody here undoes it.
    UnknownCoding = "unknown_coding", NOT_IMPLEMENTED;
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1).
    CodingInHttp10 = "coding_in_http10", BAD_REQUEST;
    /// No Host in HTTP/1.1 (RFC 9112 §3.2).
    NoHost = "no_host", BAD_REQUEST;
    /// More than one Host.
    DoubledHost = "doubled_host", BAD_REQUEST;
    /// A Host, or an authority, that is no host with or without a port.
    BadHost = "bad_host", BAD_REQUEST;
    /// A Host that names another one than the target or `:authority` does.
    DifferingHosts = "differing_hosts", BAD_REQUEST;
    /// A body whose chunks or trailers are not what RFC 9112 §7.1 has, or are more than is taken of them.
    BadChunk = "bad_chunk", BAD_REQUEST;
    /// The body is longer than it may be.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// Nothing of the body came for too long.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    /// The head was not whole in time.
    HeadTimeout = "head_timeout", REQUEST_TIMEOUT;
    /// HTTP found it wrong although the checks here did not.
    Malformed = "malformed", BAD_REQUEST;
    /// No route takes it.
    NoRoute = "no_route", NOT_FOUND;
    /// Its source has sent as many as it may (RFC 6585 §4).
    SourceRate = "source_rate", TOO_MANY_REQUESTS;
    /// All sources together have sent as many as they may.
    TotalRate = "total_rate", TOO_MANY_REQUESTS;
}

impl Refusal {
    /// The error type of RFC 9209 §2.3.
    const fn proxy_error(self) -> &'static str {
        match self {
            Self::NoRoute => "destination_not_found",
            Self::SourceRate | Self::TotalRate => "http_request_denied",
            _ => "http_request_error",
        }
    }

    /// Whether the request is malformed (RFC 9113 §8.1.1), of those that are found in HTTP/2 here. What else is refused
    /// there could be asked of somebody who offers it.
    pub(super) const fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::BadFieldValue
                | Self::BadTarget
                | Self::NoHost
                | Self::DoubledHost
                | Self::BadHost
                | Self::DifferingHosts
        )
    }

    /// Whether the connection cannot go on behind it: where the next request begins is not known, or not agreed upon.
    const fn closes(self) -> bool {
        !matches!(self, Self::NoRoute | Self::SourceRate | Self::TotalRate)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What the client is told of a failure.
pub(super) const fn status_of(failure: Failure) -> StatusCode {
    match failure {
        Failure::NoBackend | Failure::QueueFull => StatusCode::SERVICE_UNAVAILABLE,
        Failure::ConnectFailed | Failure::TlsFailed | Failure::ClosedEarly | Failure::BadAnswer => {
            StatusCode::BAD_GATEWAY
        }
        Failure::QueueTimeout
        | Failure::ConnectTimeout
        | Failure::ResponseTimeout
        | Failure::TotalTimeout
        | Failure::AnswerTimeout => StatusCode::GATEWAY_TIMEOUT,
        Failure::ClientGone => StatusCode::BAD_REQUEST,
        Failure::NoUpgrade => StatusCode::NOT_IMPLEMENTED,
    }
}

/// The error type of RFC 9209 §2.3.
const fn proxy_error_of(failure: Failure) -> &'static str {
    match failure {
        Failure::NoBackend => "destination_unavailable",
        Failure::QueueFull | Failure::QueueTimeout => "connection_limit_reached",
        Failure::ConnectFailed => "connection_refused",
        Failure::ConnectTimeout => "connection_timeout",
        Failure::TlsFailed => "tls_protocol_error",
        Failure::ClosedEarly => "connection_terminated",
        Failure::BadAnswer => "http_protocol_error",
        Failure::ResponseTimeout | Failure::TotalTimeout | Failure::AnswerTimeout => "http_response_timeout",
        Failure::ClientGone => "http_request_error",
        Failure::NoUpgrade => "http_upgrade_failed",
    }
}

/// The answer to a refused request. `version` is the client's.
pub(super) fn refuse(refusal: Refusal, version: Version) -> Response<Bytes> {
    let mut response = answer(refusal.status(), refusal.proxy_error(), refusal.word());
    if refusal.closes() && version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a request that no backend has answered.
pub(super) fn fail(failure: Failure, version: Version) -> Response<Bytes> {
    let mut response = answer(status_of(failure), proxy_error_of(failure), failure.word());
    if failure == Failure::ClientGone && version != Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Says in a field of its own why an answer is the balancer's, where that is wanted. Not by default: the field is easy to
/// look for, in a browser or by a script, and so it is for whoever probes the balancer.
pub(super) fn show<T>(mut response: Response<T>, word: &'static str, reasons: Reasons) -> Response<T> {
    if reasons == Reasons::Shown {
        response.headers_mut().insert(REASON, HeaderValue::from_static(word));
    }
    response
}

fn answer(status: StatusCode, error: &str, word: &str) -> Response<Bytes> {
    let text = format!("{} {}: {word}\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(value) = HeaderValue::try_from(format!("fourseven; error={error}; details=\"{word}\"")) {
        headers.insert(PROXY_STATUS, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: HashSet<&str> = Refusal::ALL.iter().map(|refusal| refusal.word()).collect();
        assert_eq!(words.len(), Refusal::COUNT);
        for word in words {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || b"_10".contains(&byte)), "{word}");
        }
    }

    #[test]
    fn a_failure_says_why_in_the_field_that_is_there_for_it() {
        let response = fail(Failure::ConnectFailed, Version::HTTP_11);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let said = response.headers().get("proxy-status").unwrap();
        assert_eq!(said, "fourseven; error=connection_refused; details=\"connect_failed\"");
        assert_eq!(response.body(), "502 Bad Gateway: connect_failed\n");
    }

    #[test]
    fn a_refused_http_1_connection_is_closed_and_one_without_a_route_is_not() {
        let closes = |refusal, version| refuse(refusal, version).headers().contains_key(CONNECTION);
        assert!(closes(Refusal::BareLf, Version::HTTP_11));
        assert!(!closes(Refusal::BadHost, Version::HTTP_2));
        assert!(!closes(Refusal::NoRoute, Version::HTTP_11));
    }
}
