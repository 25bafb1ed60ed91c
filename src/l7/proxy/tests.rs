//! A proxy as its worker sees it: frames in, frames out, and sessions between them.

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use super::*;
use crate::l7::exchange::{Answer, Exchange, Failure};
use crate::l7::front::Routes;
use crate::l7::spec::{GroupId, Patience, RouteSpec, UpstreamMode};
use crate::l7::stack::{DeviceTraits, Offloads, Share, StackSettings};
use crate::packet::Offload;

/// Has no backend for anybody.
struct Nobody;

impl Forward for Nobody {
    type Body = http_body_util::Empty<bytes::Bytes>;

    async fn forward(&self, _: Exchange) -> Result<Answer<Self::Body>, Failure> {
        Err(Failure::NoBackend)
    }
}

/// Secures nothing, and says that it has.
struct Pretend;

impl Secure for Pretend {
    type Stream = FlowStream;

    async fn secure(&self, stream: FlowStream, _: Duration) -> Option<Secured<FlowStream>> {
        Some(Secured { stream, protocol: Agreed::Http1, server_name: None })
    }
}

fn endpoint(text: &str) -> Endpoint {
    text.parse::<std::net::SocketAddr>().unwrap().into()
}

struct Bench {
    proxy: Proxy<Nobody, Pretend>,
    now: Instant,
    counters: Arc<FrontCounters>,
}

impl Bench {
    fn new(most: usize, secure: Option<&Rc<Pretend>>) -> Self {
        let device = DeviceTraits { mtu: 1500, offloads: Offloads::None };
        let stack = Stack::new(StackSettings::on(device), Share::ALL, [7; 32]);
        let counters = Arc::<FrontCounters>::default();
        let routes =
            Routes::new(&[RouteSpec::to(GroupId(0))]);
        let site = Rc::new(Site {
            routes: routes.into(),
            mode: UpstreamMode::Pool,
            patience: Patience::default(),
            forward: Rc::new(Nobody),
            counters: Arc::clone(&counters),
        });
        let mut proxy = Proxy::new(stack, SessionLimit::new(most), Arc::clone(&counters));
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
        let (mut text, mut fin, mut rst) = (String::new(), false, false);
        for packet in said {
            let sliced = SlicedPacket::from_ip(packet).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
            let payload = std::str::from_utf8(tcp.payload()).unwrap();
            let length = payload.len() + usize::from(tcp.fin()) + usize::from(tcp.syn());
            self.expected = tcp.sequence_number().wrapping_add(u32::try_from(length).unwrap());
            text.push_str(payload);
            (fin, rst) = (fin || tcp.fin(), rst || tcp.rst());
        }
        (text, fin, rst)
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
    for secure in [None, Some(Rc::new(Pretend))] {
        run(async {
            let mut bench = Bench::new(10, secure.as_ref());
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
}

#[test]
fn there_are_no_more_sessions_than_may_be() {
    run(async {
        let mut bench = Bench::new(1, None);
        let (_first, rst) = Hand::connect(&mut bench, 4711).await;
        assert!(!rst);
        let (_second, rst) = Hand::connect(&mut bench, 4712).await;
        assert!(rst);
        assert_eq!(bench.counters.sessions_refused.value(), 1);
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
