//! A process in memory: clients, workers, and backends whose connections can be looked at as a kernel would.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;

use super::wire::{End, Peer, connection};
use crate::balance::{BackendSpec, PassiveHealth, SchedulerKind, Weight};
use crate::datapath::{BackendId, WorkerId};
use crate::l7::client_body::ClientBody;
use crate::l7::connect::{Connect, Link};
use crate::l7::exchange::{Exchange, Failure, Forward, Origin, Purpose, RequestBody};
use crate::l7::spec::{
    GroupId, GroupSpec, Plan, ProxyProtocol, UpstreamLimits, UpstreamMode, UpstreamProtocol,
};
use crate::l7::trace::Trace;
use crate::l7::upstream::{BackendCounts, DropReason, OpenReason, Shared, Upstreams};
use crate::packet::Endpoint;

pub(super) type Body = BoxBody<Bytes, io::Error>;
type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

pub(super) fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

/// The backend of this number.
pub(super) fn backend(number: u16) -> Endpoint {
    Endpoint { port: 8000 + number, ..endpoint("10.0.0.1:1") }
}

/// What a backend does with its connections; the number counts all connections of the world.
pub(super) type Behaviour = Rc<dyn Fn(usize, End) -> Boxed<()>>;

/// What comes of an attempt to connect.
#[derive(Clone)]
pub(super) enum Door {
    Open(Behaviour),
    Refused,
    Silent,
}

/// The way to backends.
#[derive(Clone, Default)]
pub(super) struct Wires {
    doors: Rc<RefCell<Vec<(Endpoint, Door)>>>,
    pub connected: Rc<Cell<usize>>,
    /// Every connection that there was.
    pub peers: Rc<RefCell<Vec<Arc<Peer>>>>,
    /// How long connecting takes.
    pub delay: Rc<Cell<Duration>>,
}

impl Wires {
    pub(super) fn set(&self, number: u16, door: Door) {
        let mut doors = self.doors.borrow_mut();
        doors.retain(|(at, _)| *at != backend(number));
        doors.push((backend(number), door));
    }

    /// A backend that is a function of its connections.
    pub(super) fn script<F: Future<Output = ()> + 'static>(
        &self,
        number: u16,
        script: impl Fn(usize, End) -> F + 'static,
    ) {
        self.set(number, Door::Open(Rc::new(move |nth, end| Box::pin(script(nth, end)))));
    }

    /// A backend that is a hyper server, which says who it is and what it was asked.
    pub(super) fn server(&self, number: u16) {
        self.script(number, move |_, end| async move {
            let service = service_fn(move |request| echo(number, request));
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(end), service).await;
        });
    }
}

/// Answers with the request's own body, or else with its path.
pub(super) async fn echo(
    number: u16,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
    let body = if body.is_empty() { Bytes::from(path) } else { body };
    Ok(Response::builder().header("x-number", number).body(Full::new(body)).unwrap())
}

impl Connect for Wires {
    fn connect(&self, at: Endpoint) -> Boxed<io::Result<Link>> {
        let door = self.doors.borrow().iter().find(|(door, _)| *door == at).map(|(_, door)| door.clone());
        let nth = self.connected.get();
        let (counter, delay) = (Rc::clone(&self.connected), self.delay.get());
        let peers = Rc::clone(&self.peers);
        Box::pin(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            match door {
                Some(Door::Open(behaviour)) => {
                    counter.set(nth + 1);
                    let (near, far) = connection();
                    peers.borrow_mut().push(Arc::clone(&near.peer));
                    tokio::task::spawn_local(behaviour(nth, far));
                    let probe = Arc::clone(&near.peer);
                    Ok(Link { bytes: Box::new(near), probe })
                }
                Some(Door::Silent) => std::future::pending().await,
                Some(Door::Refused) | None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// A group of backends numbered from 0.
pub(super) fn group(backends: u16) -> GroupSpec {
    let member = |number| BackendSpec { endpoint: backend(number), weight: Weight::ONE, drain: false };
    GroupSpec {
        name: "web".to_owned(),
        scheduler: SchedulerKind::Rr,
        members: (0..backends).map(member).collect(),
        protocol: UpstreamProtocol::Http1,
        tls: None,
        proxy_protocol: ProxyProtocol::None,
        limits: UpstreamLimits::default(),
    }
}

pub(super) fn shared_of(groups: Vec<GroupSpec>, most: Option<usize>) -> Arc<Shared> {
    let plan = Plan { groups, upstreams: most, ..Plan::default() };
    Shared::new(&plan, Vec::new(), PassiveHealth::default(), 1).unwrap()
}

/// One worker with its backends.
#[derive(Clone)]
pub(super) struct World {
    pub shared: Arc<Shared>,
    pub wires: Wires,
    pub upstreams: Rc<Upstreams>,
    /// Where the next requests' upstreams come from.
    pub mode: Rc<Cell<UpstreamMode>>,
    pub prefer: Rc<Cell<Option<BackendId>>>,
}

impl World {
    pub(super) fn new(groups: Vec<GroupSpec>, most: Option<usize>) -> Self {
        Self::on(shared_of(groups, most), 0)
    }

    pub(super) fn on(shared: Arc<Shared>, worker: u8) -> Self {
        let wires = Wires::default();
        let upstreams = Upstreams::new(Arc::clone(&shared), WorkerId(worker), Rc::new(wires.clone()));
        Self { shared, wires, upstreams: Rc::new(upstreams), mode: Rc::default(), prefer: Rc::default() }
    }

    /// With one backend that is a hyper server.
    pub(super) fn simple() -> Self {
        let world = Self::new(vec![group(1)], None);
        world.wires.server(0);
        world
    }

    /// One backend's counts, in the first group.
    pub(super) fn counts(&self, backend: usize) -> BackendCounts {
        self.shared.report()[0].backends[backend].counts
    }

    pub(super) fn opened(&self, reason: OpenReason) -> u64 {
        self.shared.report()[0].backends.iter().map(|backend| backend.counts.opened_for(reason)).sum()
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.shared.report()[0].backends.iter().map(|backend| backend.counts.dropped_for(reason)).sum()
    }

    pub(super) fn failures(&self, failure: Failure) -> u64 {
        let place = Failure::ALL.iter().position(|known| *known == failure).unwrap();
        self.shared.report()[0].failures[place]
    }

    /// Nothing is in flight, nobody waits, and what is live is idle.
    pub(super) fn assert_at_rest(&self) {
        for group in self.shared.report() {
            assert_eq!(group.waiting, 0, "{group:?}");
            for backend in group.backends {
                let counts = backend.counts;
                assert_eq!(counts.in_flight, 0, "{counts:?}");
                assert_eq!(counts.live, counts.idle, "{counts:?}");
                let dropped: u64 = counts.dropped.iter().sum();
                assert_eq!(counts.opened() - dropped, counts.live as u64, "{counts:?}");
            }
        }
    }

    /// A client with a connection of its own, to the group of this number.
    pub(super) fn client(&self, group: usize) -> Client {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let world = self.clone();
        let service = service_fn(move |request| {
            let world = world.clone();
            async move { Ok::<_, Infallible>(world.front(group, request).await) }
        });
        tokio::task::spawn_local(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .half_close(false)
                .serve_connection(TokioIo::new(far), service)
                .with_upgrades()
                .await;
        });
        Client { near: Some(near), sender: None }
    }

    async fn front(&self, group: usize, mut request: Request<Incoming>) -> Response<Body> {
        let client_upgrade =
            request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
        let client_is_plain = client_upgrade.is_none();
        // As the front half does it, the URI says all that the client asked for.
        if request.uri().authority().is_none() && request.uri().path() != "*" {
            let path = request.uri().path_and_query().unwrap().as_str();
            *request.uri_mut() = format!("http://www.example.com{path}").parse().unwrap();
        }
        let asked = request.uri().clone();
        let trace = Trace::default();
        let exchange = Exchange {
            request: request.map(|body| {
                let patience = Duration::from_hours(24);
                RequestBody::Client(ClientBody::new(body, trace.clone(), None, patience))
            }),
            asked,
            group: GroupId(group),
            backend: self.prefer.get(),
            purpose: Purpose::Answer,
            mode: self.mode.get(),
            client: endpoint("198.51.100.7:40000"),
            vip: endpoint("203.0.113.1:80"),
            trace,
        };
        match self.upstreams.forward(exchange).await {
            Ok(answer) => {
                let origin = if answer.upstream == Some(Origin::New) { "new" } else { "reused" };
                let (tries, from) = (answer.tries, answer.backend.expect("a backend").port - 8000);
                let mut response = answer.response;
                if let Some(client) = client_upgrade {
                    let upstream = hyper::upgrade::on(&mut response);
                    tokio::task::spawn_local(async move {
                        let (mut a, mut b) = (TokioIo::new(client.await?), TokioIo::new(upstream.await?));
                        let _ = tokio::io::copy_bidirectional(&mut a, &mut b).await;
                        Ok::<_, hyper::Error>(())
                    });
                }
                *response.version_mut() = hyper::Version::HTTP_11;
                let headers = response.headers_mut();
                if client_is_plain {
                    headers.remove("connection");
                }
                headers.insert("x-origin", origin.parse().unwrap());
                headers.insert("x-tries", tries.into());
                headers.insert("x-backend", from.into());
                response.map(|body| BoxBody::new(body.map_err(io::Error::other)))
            }
            Err(failure) => Response::builder()
                .status(StatusCode::BAD_GATEWAY)
                .header("x-failure", failure.word())
                .body(empty())
                .unwrap(),
        }
    }
}

pub(super) fn empty() -> Body {
    BoxBody::new(Empty::new().map_err(|never: Infallible| match never {}))
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    BoxBody::new(Full::new(bytes.into()).map_err(|never: Infallible| match never {}))
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub status: u16,
    /// Why there is no answer, or nothing.
    pub failure: String,
    pub origin: String,
    pub tries: u32,
    pub backend: u16,
    /// Its body; `None` if it broke off.
    pub body: Option<Bytes>,
}

impl Told {
    pub(super) fn text(&self) -> &str {
        self.body.as_deref().map_or("(broke off)", |body| std::str::from_utf8(body).unwrap())
    }

    #[track_caller]
    pub(super) fn assert_failed(&self, failure: Failure) {
        assert_eq!((self.status, self.failure.as_str()), (502, failure.word()), "{self:?}");
    }

    #[track_caller]
    pub(super) fn assert_ok(&self) -> &Self {
        assert_eq!((self.status, self.failure.as_str()), (200, ""), "{self:?}");
        self
    }
}

/// One client connection. It opens itself with its first request.
pub(super) struct Client {
    near: Option<DuplexStream>,
    sender: Option<http1::SendRequest<Body>>,
}

impl Client {
    pub(super) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        if let Some(near) = self.near.take() {
            let (sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
            tokio::task::spawn_local(connection.with_upgrades());
            self.sender = Some(sender);
        }
        let sender = self.sender.as_mut().unwrap();
        sender.ready().await?;
        sender.send_request(request).await
    }

    pub(super) async fn tell(&mut self, request: Request<Body>) -> Told {
        let response = self.send(request).await.unwrap();
        let text =
            |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let number = |name: &str| text(name).parse().unwrap_or_default();
        Told {
            status: response.status().as_u16(),
            failure: text("x-failure"),
            origin: text("x-origin"),
            tries: number("x-tries"),
            backend: u16::try_from(number("x-backend")).unwrap(),
            body: response.into_body().collect().await.ok().map(Collected::to_bytes),
        }
    }

    pub(super) async fn ask(&mut self, method: Method, path: &str, body: Body) -> Told {
        let request = Request::builder().method(method).uri(path).header("host", "example.com");
        self.tell(request.body(body).unwrap()).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Told {
        self.ask(Method::GET, path, empty()).await
    }

    pub(super) async fn post(&mut self, body: impl Into<Bytes>) -> Told {
        self.ask(Method::POST, "/post", full(body)).await
    }
}

/// Runs a story on a clock that stands still while anything can be done, and jumps when nothing can.
pub(super) fn story<F: Future<Output = ()>>(story: F) {
    run(true, story);
}

/// Runs a story on the machine's own clock.
pub(super) fn run<F: Future<Output = ()>>(paused: bool, story: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(paused).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, story);
}

/// Lets everything that can run do so.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Notes, from scripts to the story.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(super) fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
