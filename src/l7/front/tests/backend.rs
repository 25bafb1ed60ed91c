//! A backend in memory: a hyper server behind a hyper client, so that heads, bodies, trailers and upgrades are real.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_local;

use super::endpoint;
use crate::datapath::BackendId;
use crate::l7::exchange::{Answer, Exchange, Failure, Forward, Origin, Purpose};
use crate::l7::spec::GroupId;

/// What the backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Answers with the request's body, and its trailers if it had any.
    Echo,
    /// Answers without looking at the body.
    Ignore,
    /// Never.
    Nothing,
    /// Answers with more than a client's connection holds.
    Large,
    /// Begins an answer, and does not go on.
    Stall,
    /// Begins a chunked body, then breaks off.
    BreakOff,
    /// Fails so.
    Fail(Failure),
    /// Changes protocols, and echoes bytes behind that.
    Upgrade,
    /// Answers with this status and a few fields that must not pass.
    Status(u16),
    /// Answers with a page that can be compressed.
    Page,
}

/// What a backend was sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Result<String, String>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) group: GroupId,
    pub(super) uri: String,
}

/// The backend.
pub(super) struct Backend {
    does: Does,
    pub(super) seen: Rc<RefCell<Vec<Seen>>>,
    pub(super) dropped: Rc<RefCell<usize>>,
    /// The backend that each request was to go to.
    pub(super) stays: RefCell<Vec<Option<BackendId>>>,
    /// What clients have asked for.
    pub(super) asked: RefCell<Vec<String>>,
    /// Who answers, whoever was to.
    pub(super) elsewhere: Cell<Option<u32>>,
    /// What becomes of copies, if that is something else.
    pub(super) copies: Cell<Option<Does>>,
}

type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

impl Backend {
    pub(super) fn new(does: Does) -> Self {
        Self {
            does,
            seen: Rc::default(),
            dropped: Rc::default(),
            stays: RefCell::default(),
            asked: RefCell::default(),
            elsewhere: Cell::default(),
            copies: Cell::default(),
        }
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.seen.borrow().iter().map(|seen| seen.head.clone()).collect()
    }

    pub(super) fn last(&self) -> Seen {
        self.seen.borrow().last().expect("the backend was sent something").clone()
    }
}

/// Counts an exchange that is dropped before its answer.
struct Dropped(Rc<RefCell<usize>>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        if !self.1 {
            *self.0.borrow_mut() += 1;
        }
    }
}

impl Forward for Backend {
    type Body = Incoming;

    async fn forward(&self, exchange: Exchange) -> Result<Answer<Incoming>, Failure> {
        let mut dropped = Dropped(Rc::clone(&self.dropped), false);
        self.stays.borrow_mut().push(exchange.backend);
        self.asked.borrow_mut().push(exchange.asked.to_string());
        // The backend that is asked for answers, or else the first one.
        let number = self.elsewhere.get().or(exchange.backend.map(|backend| backend.0 + 1)).unwrap_or(1);
        let copy = self.copies.get().filter(|_| exchange.purpose == Purpose::Copy);
        let does = copy.unwrap_or(self.does);
        if let Does::Fail(failure) = does {
            dropped.1 = true;
            return Err(failure);
        }
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let seen = Rc::clone(&self.seen);
        let (group, uri) = (exchange.group, exchange.request.uri().to_string());
        if does == Does::BreakOff {
            spawn_local(break_off(theirs));
        } else {
            let service =
                service_fn(move |request| serve(does, request, Rc::clone(&seen), group, uri.clone()));
            let server =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
            spawn_local(async move { drop(server.with_upgrades().await) });
        }
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.expect("memory");
        spawn_local(async move { drop(connection.with_upgrades().await) });
        let mut request = exchange.request;
        *request.uri_mut() =
            request.uri().path_and_query().expect("a path").as_str().parse().expect("a path");
        *request.version_mut() = hyper::Version::HTTP_11;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| if error.is_user() { Failure::ClientGone } else { Failure::ClosedEarly });
        dropped.1 = true;
        Ok(Answer {
            response: response?,
            backend: Some(endpoint(&format!("10.0.0.{number}:8080"))),
            upstream: Some(Origin::New),
            tries: 1,
            cache: None,
        })
    }
}

/// Half an answer.
async fn break_off(mut stream: tokio::io::DuplexStream) {
    let mut buffer = [0; 1024];
    let _read = stream.read(&mut buffer).await;
    let half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    stream.write_all(half).await.expect("memory");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

async fn serve(
    does: Does,
    mut request: Request<Incoming>,
    seen: Rc<RefCell<Vec<Seen>>>,
    group: GroupId,
    uri: String,
) -> Result<Response<Sent>, Infallible> {
    let head = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let note = |body, trailers| {
        let (head, headers, uri) = (head.clone(), headers.clone(), uri.clone());
        seen.borrow_mut().push(Seen { head, headers, body, trailers, group, uri });
    };
    let text = |text: &'static str| Full::new(Bytes::from(text)).boxed_unsync();
    match does {
        Does::Nothing => {
            note(Ok(String::new()), None);
            std::future::pending().await
        }
        Does::Large => {
            note(Ok(String::new()), None);
            Ok(Response::new(Full::new(Bytes::from(vec![b'x'; 8 << 20])).boxed_unsync()))
        }
        Does::Stall => {
            note(Ok(String::new()), None);
            let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            let rest = futures_util::stream::pending();
            let body = StreamBody::new(futures_util::StreamExt::chain(first, rest));
            Ok(Response::new(BodyExt::boxed_unsync(body)))
        }
        Does::Ignore => {
            note(Ok(String::new()), None);
            Ok(Response::new(text("ignored")))
        }
        Does::Upgrade if headers.contains_key("upgrade") => {
            note(Ok(String::new()), None);
            let upgrade = hyper::upgrade::on(&mut request);
            spawn_local(async move {
                let mut stream = TokioIo::new(upgrade.await.expect("changed"));
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..read]).await.expect("written");
                }
                stream.write_all(b"bye").await.expect("written");
                stream.shutdown().await.expect("shut down");
            });
            Ok(Response::builder()
                .status(StatusCode::SWITCHING_PROTOCOLS)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
                .body(text(""))
                .expect("a response"))
        }
        Does::Status(status) => {
            note(Ok(String::new()), None);
            Ok(Response::builder()
                .status(status)
                .header("connection", "x-hop")
                .header("x-hop", "1")
                .header("keep-alive", "timeout=5")
                .header("server", "backend")
                .header("date", "Thu, 01 Jan 1970 00:00:00 GMT")
                .header("via", "1.0 cache")
                .body(text(""))
                .expect("a response"))
        }
        Does::Page => {
            note(Ok(String::new()), None);
            Ok(Response::builder()
                .header("content-type", "text/html")
                .header("etag", "\"page\"")
                .body(Full::new(Bytes::from("<p>again</p>".repeat(1000))).boxed_unsync())
                .expect("a response"))
        }
        Does::Echo | Does::Upgrade | Does::BreakOff | Does::Fail(_) => {
            let known = request.body().size_hint().exact().is_some();
            let collected = match request.into_body().collect().await {
                Ok(collected) => collected,
                Err(error) => {
                    note(Err(error.to_string()), None);
                    std::future::pending().await
                }
            };
            let trailers = collected.trailers().cloned();
            let body = collected.to_bytes();
            note(Ok(String::from_utf8_lossy(&body).into_owned()), trailers.clone());
            let mut response = Response::builder();
            if trailers.is_some() {
                response = response.header("trailer", "x-sum");
            }
            let sent = if known {
                Full::new(body).boxed_unsync()
            } else {
                let frames = [Frame::data(body)].into_iter().chain(trailers.map(Frame::trailers));
                let frames = frames.map(Ok).collect::<Vec<_>>();
                BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames)))
            };
            Ok(response.body(sent).expect("a response"))
        }
    }
}
