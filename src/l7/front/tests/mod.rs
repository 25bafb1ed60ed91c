//! Tests of the front: raw bytes and real clients on one side, a backend that writes down all it is sent on the other.

mod backend;
mod floods;
mod heads;
mod limits;
mod messages;
mod patience;
mod protocols;
mod routes;
mod upgrades;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use self::backend::{Backend, Does};
use super::{Arrived, Cut, FrontCounters, Refusal, Routes, Security, Site, serve};
use crate::l7::access::{AccessLog, Record};
use crate::l7::spec::{
    GroupId, HostPattern, PathPattern, Patience, Reasons, RequestLimits, RouteSpec, UpstreamMode,
};
use crate::l7::tls::Alpn;

fn endpoint(text: &str) -> crate::packet::Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

const PATIENCE: Patience = Patience {
    body: Duration::from_secs(40),
    send: Duration::from_secs(50),
    total: None,
    handshake: Duration::from_secs(10),
    head: Duration::from_secs(30),
    keep_alive: Duration::from_secs(75),
};

/// A log that is looked at.
#[derive(Default)]
struct Lines(RefCell<Vec<Line>>);

/// What a record said.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    asked: String,
    status: Option<u16>,
    why: Option<&'static str>,
    received: u64,
    sent: u64,
    route: Option<String>,
    whom: Option<crate::packet::Endpoint>,
}

impl AccessLog for Lines {
    fn record(&self, record: &Record<'_>) {
        let asked = record.request.map(|asked| {
            let host = std::str::from_utf8(asked.host).expect("text");
            format!("{} {host}{} {}", asked.method, asked.path, asked.version)
        });
        self.0.borrow_mut().push(Line {
            asked: asked.unwrap_or_default(),
            status: record.status,
            why: record.why,
            received: record.received,
            sent: record.sent,
            route: record.route.map(str::to_owned),
            whom: record.backend,
        });
    }
}

/// A session, and what it is served with.
struct Bench {
    log: Rc<Lines>,
    client: DuplexStream,
    backend: Rc<Backend>,
    site: Rc<Site<Backend>>,
    drain: watch::Sender<bool>,
    session: tokio::task::JoinHandle<()>,
}

impl Bench {
    /// Serves a connection. Must run in a `LocalSet`.
    fn serve(does: Does, alpn: Option<Alpn>, security: Security) -> Self {
        Self::by(does, alpn, security, |_| {})
    }

    /// Serves one by a site that is not quite the usual one.
    fn by(
        does: Does,
        alpn: Option<Alpn>,
        security: Security,
        change: impl FnOnce(&mut Site<Backend>),
    ) -> Self {
        let routes = Routes::new(&[
            RouteSpec::to(GroupId(0)),
            RouteSpec {
                host: HostPattern::Exact("api.example.com".to_owned()),
                path: PathPattern::Prefix("/v1".to_owned()),
                ..RouteSpec::to(GroupId(1))
            },
            RouteSpec { path: PathPattern::Prefix("/admin".to_owned()), ..RouteSpec::to(GroupId(2)) },
        ]);
        let backend = Rc::new(Backend::new(does));
        let log = Rc::<Lines>::default();
        let mut site = Site {
            routes: routes.into(),
            mode: UpstreamMode::Pool,
            patience: PATIENCE,
            requests: RequestLimits::default(),
            log: Some(Rc::clone(&log) as Rc<dyn AccessLog>),
            reasons: Reasons::Hidden,
            forward: Rc::clone(&backend),
            counters: FrontCounters::default().into(),
        };
        change(&mut site);
        let site = Rc::new(site);
        let (client, server) = tokio::io::duplex(1 << 16);
        let (drain, drained) = watch::channel(false);
        let arrived = Arrived {
            client: endpoint("198.51.100.7:4711"),
            vip: endpoint("203.0.113.1:80"),
            security,
            alpn,
            server_name: None,
            handshake: None,
        };
        let session = tokio::task::spawn_local(serve(server, arrived, Rc::clone(&site), drained));
        Self { log, client, backend, site, drain, session }
    }

    fn with(routes: Routes, reasons: Reasons, does: Does, alpn: Option<Alpn>, security: Security) -> Self {
        Self::by(does, alpn, security, |site| (site.routes, site.reasons) = (routes.into(), reasons))
    }

    fn clear(does: Does) -> Self {
        Self::serve(does, None, Security::Clear)
    }

    /// Sends bytes, ends the client's half, and reads to the end.
    async fn exchange(&mut self, bytes: &[u8]) -> String {
        self.client.write_all(bytes).await.unwrap();
        self.client.shutdown().await.unwrap();
        self.rest().await
    }

    async fn rest(&mut self) -> String {
        let mut answer = Vec::new();
        let _reset = self.client.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    /// Reads until what has come ends so.
    async fn until(&mut self, end: &str) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            let Ok(byte) = self.client.read_u8().await else {
                panic!("ended behind {:?}", String::from_utf8_lossy(&answer));
            };
            answer.push(byte);
        }
        String::from_utf8(answer).unwrap()
    }

    fn lines(&self) -> Vec<Line> {
        self.log.0.borrow().clone()
    }

    /// Why the log says that requests ended.
    fn whys(&self) -> Vec<Option<&'static str>> {
        self.lines().iter().map(|line| line.why).collect()
    }

    fn cut(&self) -> Vec<Cut> {
        Cut::ALL.iter().filter(|cut| self.site.counters.cut(**cut) > 0).copied().collect()
    }

    fn refused(&self) -> Vec<Refusal> {
        let refused = |refusal: &&Refusal| self.site.counters.refused(**refusal) > 0;
        Refusal::ALL.iter().filter(refused).copied().collect()
    }
}

/// Runs a test on one thread, on a clock that jumps to whatever is next.
pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let limited = async { tokio::time::timeout(Duration::from_hours(24), test).await.expect("hangs") };
    runtime.block_on(LocalSet::new().run_until(limited))
}
