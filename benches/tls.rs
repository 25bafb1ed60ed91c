//! What TLS costs: handshakes of both kinds, bulk, and memory for each idle connection. `cargo bench --bench tls`.
//!
//! Both ends run on one thread, over pipes of memory. So a handshake is the server's work and the client's together, and is
//! shown so; what the server alone takes is timed around its polls.

#![expect(clippy::disallowed_methods, reason = "a benchmark is about time")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use fourseven::l7::tls::authority::{Authority, Subject};
use fourseven::l7::tls::{Certificates, ClientCheck, Handshake, Secured, Setup, Terminator};
use futures_util::future::join;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::DefaultTimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAME: &str = "bench.example.com";
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let world = World::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        if std::env::args().any(|argument| argument == format!("{:?}", version.version)) {
            return runtime.block_on(world.memory(version));
        }
    }
    for (name, client, kind) in [
        ("TLS 1.3, full", world.client(&rustls::version::TLS13, Tickets::None), Handshake::Full),
        ("TLS 1.2, full", world.client(&rustls::version::TLS12, Tickets::None), Handshake::Full),
        ("TLS 1.3, resumed", world.client(&rustls::version::TLS13, Tickets::Kept), Handshake::Resumed),
        ("TLS 1.2, resumed", world.client(&rustls::version::TLS12, Tickets::Kept), Handshake::Resumed),
    ] {
        runtime.block_on(world.handshakes(name, &client, kind));
    }
    for size in [1 << 14, 1 << 16, 1 << 20] {
        runtime.block_on(world.bulk(size));
    }
    // In a process of its own, where no memory has been used before.
    let program = std::env::current_exe().expect("this program has a path");
    for version in ["TLSv1_3", "TLSv1_2"] {
        let child = std::process::Command::new(&program).arg(version).status();
        assert!(child.is_ok_and(|status| status.success()));
    }
    println!(
        "  of which the stream's own struct: {} bytes",
        size_of::<tokio_rustls::server::TlsStream<()>>()
    );
}

/// Whether a client keeps its tickets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tickets {
    Kept,
    None,
}

struct World {
    terminator: Terminator,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("bench", UnixTime::now()).expect("an authority");
        let issued = authority.server(Subject { hosts: &[NAME], addresses: &[] }).expect("a certificate");
        let material = issued.material("bench").expect("material");
        let terminator = Terminator::new(Setup {
            certificates: Arc::new(Certificates::new(vec![material]).expect("certificates")),
            client: ClientCheck::None,
            key_log: None,
            time: Arc::new(DefaultTimeProvider),
        });
        Self { terminator: terminator.expect("a terminator"), authority }
    }

    fn client(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        tickets: Tickets,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if tickets == Tickets::None {
            config.resumption = rustls::client::Resumption::disabled();
        }
        Arc::new(config)
    }

    /// One connection, with a byte each way behind the handshake, and the time that the server took for it.
    async fn open(
        &self,
        client: &Arc<ClientConfig>,
        pipe: usize,
    ) -> (Secured<DuplexStream>, TlsStream<DuplexStream>, Duration) {
        let (near, far) = tokio::io::duplex(pipe);
        let name = ServerName::try_from(NAME).expect("a name");
        let connecting = async {
            let mut stream =
                TlsConnector::from(Arc::clone(client)).connect(name, far).await.expect("connected");
            stream.write_all(b"?").await.expect("written");
            stream.read_u8().await.expect("read");
            stream
        };
        let accepting = Timed { inner: pin!(self.terminator.accept(near, LIMIT)), spent: Duration::ZERO };
        let serving = async {
            let (secured, spent) = accepting.await;
            let mut secured = secured.unwrap_or_else(|refused| panic!("{}", refused.failure));
            secured.stream.read_u8().await.expect("read");
            secured.stream.write_all(b"!").await.expect("written");
            secured.stream.flush().await.expect("flushed");
            (secured, spent)
        };
        let ((secured, spent), stream) = join(serving, connecting).await;
        (secured, stream, spent)
    }

    async fn handshakes(&self, name: &str, client: &Arc<ClientConfig>, kind: Handshake) {
        const ROUNDS: u32 = 2000;
        self.open(client, 1 << 16).await;
        let (begin, mut server) = (Instant::now(), Duration::ZERO);
        for _ in 0..ROUNDS {
            let (secured, _, spent) = self.open(client, 1 << 16).await;
            assert_eq!(secured.agreed.handshake, kind);
            server += spent;
        }
        let (both, server) = (begin.elapsed() / ROUNDS, server / ROUNDS);
        let rate = 1.0 / server.as_secs_f64();
        println!(
            "{name:<18} both ends {both:>9.1?}   the server {server:>9.1?}   {rate:>7.0} a second of its own"
        );
    }

    async fn bulk(&self, size: usize) {
        const TOTAL: u32 = 1 << 30;
        let client = self.client(&rustls::version::TLS13, Tickets::None);
        let (mut secured, mut stream, _) = self.open(&client, 1 << 20).await;
        let block = vec![7; size];
        let begin = Instant::now();
        let sending = async {
            for _ in 0..TOTAL as usize / size {
                secured.stream.write_all(&block).await.expect("written");
            }
            secured.stream.shutdown().await.expect("closed");
        };
        let reading = async {
            let (mut space, mut all) = (vec![0; 1 << 17], 0);
            loop {
                match stream.read(&mut space).await.expect("read") {
                    0 => return all,
                    some => all += some,
                }
            }
        };
        let ((), all) = join(sending, reading).await;
        assert_eq!(all, TOTAL as usize);
        let rate = f64::from(TOTAL) * 8.0 / begin.elapsed().as_secs_f64() / 1e9;
        println!("bulk, blocks of {:>4} KB, sealed and opened on one thread: {rate:.1} Gbit/s", size >> 10);
    }

    async fn memory(&self, version: &'static rustls::SupportedProtocolVersion) {
        const CONNECTIONS: u32 = 10_000;
        let client = self.client(version, Tickets::None);
        // What is made once for all.
        let first = self.idle(&client).await;
        let mut servers = Vec::new();
        let before = resident();
        for _ in 0..CONNECTIONS {
            servers.push(self.idle(&client).await);
        }
        let kilobytes = (resident() - before) / f64::from(CONNECTIONS) / 1024.0;
        println!("memory of an idle connection, a pipe included, {:?}: {kilobytes:.1} KB", version.version);
        drop((first, servers));
    }

    /// The server's end of a connection that has spoken, and waits for more; the client's TLS is gone.
    async fn idle(&self, client: &Arc<ClientConfig>) -> (Secured<DuplexStream>, DuplexStream) {
        let (mut secured, stream, _) = self.open(client, 1 << 12).await;
        let mut byte = [0];
        std::future::poll_fn(|cx| {
            let mut buffer = tokio::io::ReadBuf::new(&mut byte);
            let waits = tokio::io::AsyncRead::poll_read(Pin::new(&mut secured.stream), cx, &mut buffer);
            assert!(waits.is_pending());
            Poll::Ready(())
        })
        .await;
        (secured, stream.into_inner().0)
    }
}

/// Memory in use, in bytes.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
    let pages = pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u32>().ok());
    f64::from(pages.expect("statm has a second number")) * 4096.0
}

/// A future, and how long its polls took.
struct Timed<F> {
    inner: F,
    spent: Duration,
}

impl<F: Future + Unpin> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let begin = Instant::now();
        let polled = Pin::new(&mut self.inner).poll(cx);
        self.spent += begin.elapsed();
        polled.map(|output| (output, self.spent))
    }
}
