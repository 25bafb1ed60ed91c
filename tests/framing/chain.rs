//! The whole of layer 7 in memory: the front, its upstreams, and connections to the origin.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fourseven::balance::{BackendSpec, PassiveHealth, SchedulerKind, Weight};
use fourseven::datapath::WorkerId;
use fourseven::l7::connect::{Connect, Link, Probe, Standing};
use fourseven::l7::front::{Arrived, FrontCounters, Routes, Security, Site, serve};
use fourseven::l7::spec::{
    GroupId, GroupSpec, Patience, Plan, ProxyProtocol, Reasons, RequestLimits, RouteSpec, UpstreamLimits,
    UpstreamMode, UpstreamProtocol,
};
use fourseven::l7::tls::Alpn;
use fourseven::l7::upstream::{Shared, Upstreams};
use fourseven::packet::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::origin::{self, Seen};

/// What came on each connection to the origin.
type Tapes = Rc<RefCell<Vec<Rc<RefCell<Vec<u8>>>>>>;

/// The way to the origin.
struct Origin(Tapes);

struct Quiet;

impl Probe for Quiet {
    fn standing(&self) -> Standing {
        Standing::Quiet
    }
}

impl Connect for Origin {
    fn connect(&self, _: Endpoint) -> Pin<Box<dyn Future<Output = io::Result<Link>>>> {
        let tape = Rc::new(RefCell::new(Vec::new()));
        self.0.borrow_mut().push(Rc::clone(&tape));
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::task::spawn_local(answer(far, tape));
        let link = Link { bytes: Box::new(near), probe: Arc::new(Quiet) };
        Box::pin(std::future::ready(Ok(link)))
    }
}

/// Answers each whole request, and writes down all that comes.
async fn answer(mut stream: DuplexStream, tape: Rc<RefCell<Vec<u8>>>) {
    let (mut read, mut answered) = ([0; 4096], 0);
    while let Ok(length @ 1..) = stream.read(&mut read).await {
        tape.borrow_mut().extend_from_slice(&read[..length]);
        loop {
            let whole = origin::whole(&tape.borrow()[answered..]);
            let Some(length) = whole else { break };
            answered += length;
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

/// A chain from a client to the origin.
pub struct Chain;

impl Chain {
    /// What the origin saw, and what the client was told, of these bytes in pieces.
    pub fn cleartext(bytes: &[u8], piece: usize) -> (Vec<Seen>, String) {
        Self::run(bytes, piece, None)
    }

    /// The same over HTTP/2.
    pub fn http2(bytes: &[u8]) -> (Vec<Seen>, String) {
        Self::run(bytes, usize::MAX, Some(Alpn::H2))
    }

    fn run(bytes: &[u8], piece: usize, alpn: Option<Alpn>) -> (Vec<Seen>, String) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let tapes = Tapes::default();
        let origin = Rc::new(Origin(Rc::clone(&tapes)));
        let told = runtime.block_on(LocalSet::new().run_until(talk(bytes, piece, alpn, origin)));
        let mut seen = Vec::new();
        for tape in tapes.borrow().iter() {
            let tape = tape.borrow();
            seen.extend(whole_requests(&tape));
        }
        (seen, told)
    }
}

/// Reads what came on a connection. It may end in the middle of a request, whose client broke off; all before that is strict.
fn whole_requests(tape: &[u8]) -> Vec<Seen> {
    let mut end = 0;
    while let Some(length) = origin::whole(&tape[end..]).filter(|length| *length > 0) {
        end += length;
    }
    let (whole, rest) = tape.split_at(end);
    // A head is forwarded whole: what is behind it can only be part of its body.
    if !rest.is_empty() {
        let why = origin::read(rest).unwrap_err();
        let half = why.starts_with("half a ");
        assert!(half && rest.windows(4).any(|at| at == b"\r\n\r\n"), "{why}");
    }
    origin::read(whole).unwrap()
}

async fn talk(bytes: &[u8], piece: usize, alpn: Option<Alpn>, origin: Rc<Origin>) -> String {
    let backend = BackendSpec { endpoint: endpoint("10.0.0.1:8080"), weight: Weight::ONE, drain: false };
    let group = GroupSpec {
        name: "origin".to_owned(),
        scheduler: SchedulerKind::Rr,
        members: vec![backend],
        protocol: UpstreamProtocol::Http1,
        tls: None,
        proxy_protocol: ProxyProtocol::None,
        limits: UpstreamLimits::default(),
    };
    let plan = Plan { groups: vec![group], ..Plan::default() };
    let shared = Shared::new(&plan, Vec::new(), PassiveHealth::default(), 1).unwrap();
    let site = Rc::new(Site {
        routes: Routes::new(&[RouteSpec::to(GroupId(0))]).into(),
        mode: UpstreamMode::Pool,
        patience: Patience::default(),
        requests: RequestLimits::default(),
        log: None,
        reasons: Reasons::Hidden,
        forward: Rc::new(Upstreams::new(shared, WorkerId(0), origin)),
        counters: FrontCounters::default().into(),
    });
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let (_drain, drained) = watch::channel(false);
    let arrived = Arrived {
        client: endpoint("198.51.100.7:4711"),
        vip: endpoint("203.0.113.1:80"),
        security: Security::Clear,
        alpn,
        server_name: None,
        handshake: None,
    };
    let session = tokio::task::spawn_local(serve(server, arrived, site, drained));
    for piece in bytes.chunks(piece) {
        // Who is refused is not listened to.
        if client.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Time for answers, and no time that anybody waits for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _gone = client.shutdown().await;
    let mut told = Vec::new();
    let _reset = tokio::time::timeout(Duration::from_secs(600), client.read_to_end(&mut told)).await;
    drop(client);
    let _ended = tokio::time::timeout(Duration::from_secs(600), session).await.expect("the session ends");
    tokio::time::sleep(Duration::from_secs(1)).await;
    String::from_utf8_lossy(&told).into_owned()
}
