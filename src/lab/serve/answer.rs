//! What the built-in backend answers, by path; the same over HTTP/1.1 and HTTP/2.
//!
//! | request | answer |
//! |---|---|
//! | `GET /bytes/N` | N bytes of the pattern |
//! | `/status/N` | that status |
//! | `/slow/MS` | the usual answer, so many milliseconds later |
//! | `POST /echo` | the body and its trailers, as they come |
//! | `GET /trailers` | a body and, behind it, the trailer `x-digest` |
//! | any with `Upgrade` | 101, then the bytes that come, back |
//! | `GET` of anything else | who answers, whom it sees, what was asked, and `X-Forwarded-For` if that came |
//! | anything else | the same, and how long the body was, and its hash |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;

use crate::lab::attempt::introduce;
use crate::lab::pattern::{self, Digest, Pattern};

/// Longer than anybody waits.
const SLOWEST: Duration = Duration::from_mins(1);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// The body of an answer: the frequent ones cost no allocation of their own.
pub(super) type Body = Either<Full<Bytes>, Either<Pattern, UnsyncBoxBody<Bytes, hyper::Error>>>;

/// What one connection's requests are answered with.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub name: HeaderValue,
    pub peer: SocketAddr,
}

impl Backend {
    pub(super) async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let mut response = self.choose(request).await;
        let headers = response.headers_mut();
        headers.insert("x-backend", self.name);
        headers.entry(CONTENT_TYPE).or_insert(TEXT);
        Ok(response)
    }

    async fn choose(&self, mut request: Request<Incoming>) -> Response<Body> {
        if request.headers().contains_key(UPGRADE) && request.version() == Version::HTTP_11 {
            return upgrade(&mut request);
        }
        let (head, body) = request.into_parts();
        let name = self.name.to_str().unwrap_or_default();
        let forwarded = head.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let forwarded = forwarded.map(|value| format!("x-forwarded-for: {value}\n")).unwrap_or_default();
        let say = || {
            let request = format!("{} {} {:?}", head.method, head.uri, head.version);
            introduce(name, self.peer, &request) + &forwarded
        };
        let path = head.uri.path();
        let (kind, number) = path.rsplit_once('/').unwrap_or(("", path));
        match (&head.method, kind, number) {
            (&Method::GET, "/bytes", count) => bytes(count),
            (_, "/status", code) => {
                match code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) {
                    // Those below are not the last word on a request.
                    Some(status) if status.as_u16() >= 200 => text(status, say()),
                    _ => refuse("/status/N: N is a number from 200 to 999\n".into()),
                }
            }
            (_, "/slow", time) => match time.parse().map(Duration::from_millis) {
                Ok(time) if time <= SLOWEST => {
                    tokio::time::sleep(time).await;
                    text(StatusCode::OK, say())
                }
                _ => refuse(format!("/slow/MS: MS is a number up to {}\n", SLOWEST.as_millis())),
            },
            (&Method::POST | &Method::PUT, "", "echo") => {
                let mut response = Response::new(Either::Right(Either::Right(body.boxed_unsync())));
                if let Some(kind) = head.headers.get(CONTENT_TYPE) {
                    response.headers_mut().insert(CONTENT_TYPE, kind.clone());
                }
                // Over HTTP/1.1, trailers that are not announced are not sent on.
                if let Some(trailer) = head.headers.get(TRAILER) {
                    response.headers_mut().insert(TRAILER, trailer.clone());
                }
                response
            }
            (&Method::GET, "", "trailers") => with_trailers(say()),
            (&Method::GET, ..) => text(StatusCode::OK, say()),
            (&Method::HEAD, ..) => text(StatusCode::OK, String::new()),
            _ => match digest(body).await {
                Ok(digest) => text(StatusCode::OK, format!("{}body: {digest}\n", say())),
                Err(_) => text(StatusCode::BAD_REQUEST, say()),
            },
        }
    }
}

fn bytes(count: &str) -> Response<Body> {
    match count.parse() {
        Ok(count) if count <= pattern::MAX_LENGTH => {
            Response::new(Either::Right(Either::Left(Pattern::new(count))))
        }
        _ => refuse(format!("/bytes/N: N is a number up to {}\n", pattern::MAX_LENGTH)),
    }
}

/// Takes any protocol that is asked for, and sends its bytes back.
fn upgrade(request: &mut Request<Incoming>) -> Response<Body> {
    let protocol = request.headers().get(UPGRADE).cloned();
    let upgrading = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrading.await {
            super::echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, String::new());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().extend(protocol.map(|protocol| (UPGRADE, protocol)));
    response
}

fn with_trailers(said: String) -> Response<Body> {
    let mut digest = Digest::default();
    digest.add(said.as_bytes());
    // Hexadecimal digits and words of ours.
    let value = HeaderValue::try_from(digest.to_string()).unwrap_or(TEXT);
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-digest"), value)]);
    let frames = [Frame::data(Bytes::from(said)), Frame::trailers(trailers)];
    // A stream, since over HTTP/1.1 a body whose length is known has no place for trailers.
    let body = StreamBody::new(stream::iter(frames.map(Ok)));
    let mut response = Response::new(Either::Right(Either::Right(body.boxed_unsync())));
    response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-digest"));
    response
}

fn refuse(why: String) -> Response<Body> {
    text(StatusCode::BAD_REQUEST, why)
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(text.into())));
    *response.status_mut() = status;
    response
}

async fn digest(mut body: Incoming) -> Result<Digest, hyper::Error> {
    let mut digest = Digest::default();
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            digest.add(bytes);
        }
    }
    Ok(digest)
}
