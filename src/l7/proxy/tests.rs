//! A proxy as its worker sees it: frames in, frames out, and sessions between them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;
use crate::l7::exchange::{Answer, Exchange, Failure};
use crate::l7::front::{Cut, FrontCounters, Routes};
use crate::l7::spec::{ClientLimits, GroupId, Patience, Reasons, RequestLimits, RouteSpec, UpstreamMode};
use crate::l7::stack::{DeviceTraits, Offloads, Share, StackSettings};
use crate::l7::tls::authority::{Authority, Subject};
use crate::l7::tls::{Certificates, ClientCheck, Setup};
use crate::packet::Offload;

/// Has no backend for anybody.
struct Nobody;

impl Forward for Nobody {
    type Body = http_body_util::Empty<bytes::Bytes>;

    async fn forward(&self, _: Exchange) -> Result<Answer<Self::Body>, Failure> {
        Err(Failure::NoBackend)
    }
}

/// The time that certificates are made and checked at.
#[derive(Debug)]
struct At(UnixTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

/// Ends TLS for `site.example.com`; with the authority that its clients trust.
fn terminator() -> (Rc<Terminator>, Authority) {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let authority = Authority::new("test", now).unwrap();
    let subject = Subject { hosts: &["site.example.com"], addresses: &[] };
    let material = authority.server(subject).unwrap().material("a test").unwrap();
    let certificates = Arc::new(Certificates::new(vec![material]).unwrap());
    let setup = Setup { certificates, client: ClientCheck::None, key_log: None, time: Arc::new(At(now)) };
    (Rc::new(Terminator::new(setup).unwrap()), authority)
}

/// A client that trusts it.
fn client(authority: &Authority) -> ClientConnection {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(At(now)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from("site.example.com").unwrap()).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

struct Bench {
    proxy: Proxy<Nobody>,
    now: Instant,
    counters: Arc<FrontCounters>,
}

impl Bench {
    fn new(most: usize, secure: Option<&Rc<Terminator>>) -> Self {
        let device = DeviceTraits { mtu: 1500, offloads: Offloads::None };
        let limits = ClientLimits { connections: most, ..ClientLimits::default() };
        let stack = Stack::new(StackSettings::on(device), Share::ALL, [7; 32]);
        let counters = Arc::<FrontCounters>::default();
        let routes = Routes::new(&[RouteSpec::to(GroupId(0))]);
        let site = Rc::new(Site {
            routes: routes.into(),
            mode: UpstreamMode::Pool,
            patience: Patience::default(),
            requests: RequestLimits::default(),
            log: None,
            reasons: Reasons::Hidden,
            forward: Rc::new(Nobody),
            counters: Arc::clone(&counters),
        });
        let mut proxy = Proxy::new(stack, SessionLimit::new(limits));
        proxy.serve(&[endpoint("203.0.113.1:80")], Listener::default(), &site, secure);
        Self { proxy, now: Instant::START + Duration::from_secs(1000), counters }
    }

    /// Gives the proxy a packet, lets its sessions run, and gathers what it says.
    async fn turn(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        let mut frame = Frame::copy_of(packet, Offload::default());
        if let Verdict::Answer(_) = self.proxy.handle_frame(self.now, &mut frame, Arrival::Queue) {
            said.push(frame.packet().to_vec());
        }
        self.proxy.accept();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.proxy.poll_egress(self.now, &mut |frame| said.push(frame.packet().to_vec()));
        said
    }
}

/// A client of hand-made segments.
struct Hand {
    port: u16,
    next: u32,
    expected: u32,
}

impl Hand {
    /// A segment with the acknowledgement of all that was heard; a SYN where there was nothing.
    fn say(&mut self, payload: &[u8]) -> Vec<u8> {
        let tcp = PacketBuilder::ipv4([198, 51, 100, 7], [203, 0, 113, 1], 64)
            .tcp(self.port, 80, self.next, 60_000);
        let tcp = if self.expected == 0 { tcp.syn() } else { tcp.ack(self.expected) };
        self.next += if self.expected == 0 { 1 } else { u32::try_from(payload.len()).unwrap() };
        let mut packet = Vec::new();
        tcp.write(&mut packet, payload).unwrap();
        packet
    }

    /// The payload and the flags FIN and RST of what was said.
    fn hear(&mut self, said: &[Vec<u8>]) -> (String, bool, bool) {
        let (bytes, fin, rst) = self.hear_bytes(said);
        (String::from_utf8(bytes).unwrap(), fin, rst)
    }

    fn hear_bytes(&mut self, said: &[Vec<u8>]) -> (Vec<u8>, bool, bool) {
        let (mut bytes, mut fin, mut rst) = (Vec::new(), false, false);
        for packet in said {
            let sliced = SlicedPacket::from_ip(packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
            let payload = tcp.payload();
            let length = payload.len() + usize::from(tcp.fin()) + usize::from(tcp.syn());
            self.expected = tcp.sequence_number().wrapping_add(u32::try_from(length).unwrap());
            bytes.extend_from_slice(payload);
            (fin, rst) = (fin || tcp.fin(), rst || tcp.rst());
        }
        (bytes, fin, rst)
    }

    async fn connect(bench: &mut Bench, port: u16) -> (Self, bool) {
        let mut hand = Self { port, next: 1000, expected: 0 };
        let said = bench.turn(&hand.say(&[])).await;
        hand.hear(&said);
        let said = bench.turn(&hand.say(&[])).await;
        let (_, _, rst) = hand.hear(&said);
        (hand, rst)
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_request_that_comes_in_frames_is_answered_in_frames() {
    run(async {
        let mut bench = Bench::new(10, None);
        let (mut hand, _) = Hand::connect(&mut bench, 4711).await;
        for _ in 0..2 {
            let said = bench.turn(&hand.say(GET)).await;
            let (text, ..) = hand.hear(&said);
            assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        }
        assert_eq!(bench.counters.open(), 1);
        assert!(!bench.proxy.is_empty());
    });
}

#[test]
fn a_request_over_tls_is_answered_over_tls() {
    run(async {
        let (terminator, authority) = terminator();
        let mut bench = Bench::new(10, Some(&terminator));
        let (mut hand, _) = Hand::connect(&mut bench, 4711).await;
        let mut client = client(&authority);
        client.writer().write_all(GET).unwrap();
        let mut text = String::new();
        for _ in 0..10 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            let said = bench.turn(&hand.say(&bytes)).await;
            let (bytes, ..) = hand.hear_bytes(&said);
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets().unwrap();
            let _would_block = client.reader().read_to_string(&mut text);
        }
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        assert_eq!((terminator.counts().full, bench.counters.handshakes_failed.value()), (1, 0));
    });
}

#[test]
fn a_handshake_that_fails_is_no_session() {
    run(async {
        let (terminator, _) = terminator();
        let mut bench = Bench::new(10, Some(&terminator));
        let (mut hand, _) = Hand::connect(&mut bench, 4711).await;
        let said = bench.turn(&hand.say(GET)).await;
        let (text, fin, _) = hand.hear(&said);
        assert!(text.starts_with("HTTP/1.1 400 ") && fin, "{text}");
        assert_eq!((bench.counters.sessions.value(), bench.counters.handshakes_failed.value()), (0, 1));
    });
}

#[test]
fn there_are_no_more_sessions_than_may_be() {
    run(async {
        let mut bench = Bench::new(1, None);
        let (_first, rst) = Hand::connect(&mut bench, 4711).await;
        assert!(!rst);
        let (_second, rst) = Hand::connect(&mut bench, 4712).await;
        assert!(rst);
        assert_eq!(bench.counters.cut(Cut::TooManyConnections), 1);
    });
}

#[test]
fn a_proxy_that_drains_ends_its_sessions_and_takes_no_new_ones() {
    run(async {
        let mut bench = Bench::new(10, None);
        let (mut hand, _) = Hand::connect(&mut bench, 4711).await;
        let said = bench.turn(&hand.say(GET)).await;
        hand.hear(&said);
        bench.proxy.drain();
        let said = bench.turn(&hand.say(&[])).await;
        let (text, fin, rst) = hand.hear(&said);
        assert_eq!((&*text, fin, rst), ("", true, false));
        assert!(bench.proxy.is_empty());
        assert!(!bench.proxy.stack().listens(endpoint("203.0.113.1:80")));
    });
}
