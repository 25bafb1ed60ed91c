//! Ten thousand connections at once, of which each is answered in the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use fourseven::lab::topology::BACKEND;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::namespace::private;
use super::net::{FAMILIES, Net, await_that};
use super::site::{CLEAR, Files, Layer7, SECURE, backends, listen, vip};
use super::support::skip_or_fail;
use super::talk::{PATIENCE, trusting};

const CONNECTIONS: usize = 10_000;
/// So many of them are over TLS: a build without optimization is slow in their handshakes.
const SECURED: usize = 1_000;
const THREADS: usize = 4;
/// Beside the connections: those of other tests, and those of the backends.
const OTHER_FILES: u64 = 4_000;

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

fn files_suffice() -> bool {
    let need = CONNECTIONS as u64 + OTHER_FILES;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Root may have more than the limit.
    let most = most.max(need);
    setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok()
}

#[test]
fn ten_thousand_connections_are_open_at_once_and_each_is_answered() {
    private("many::ten_thousand_connections_are_open_at_once_and_each_is_answered", || {
        if !files_suffice() {
            return skip_or_fail("this process may not open 14,000 files");
        }
        let net = Net::new(2);
        let files = Files::new("many");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let (clear, secure, to) = (listen(&net, CLEAR), listen(&net, SECURE), backends(&net, BACKEND));
        let mut balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nio = \"offload\"\nqueues = 2\n
                 [[service]]\nname = \"clear\"\nmode = \"l7\"\nlisten = {clear}\nbackends = {to}
                 [[service]]\nname = \"secure\"\nmode = \"l7\"\nlisten = {secure}\nbackends = {to}
                 tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]
                 [service.patience]\nkeep_alive = \"10m\"\nhead = \"10m\"\n"
            ),
        );
        let config = trusting(&files.authority.pem(), &["http/1.1"]);
        let ends = FAMILIES.map(|family| (vip(&net, family, CLEAR), vip(&net, family, SECURE)));
        let began = Instant::now();
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let config = Arc::clone(&config);
                let (clear, secure) = ends[number % 2];
                net.client.run(move || {
                    thread::spawn(move || {
                        let connect = |to| {
                            let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                            stream.set_read_timeout(Some(PATIENCE)).unwrap();
                            stream
                        };
                        let mut streams: Vec<Box<dyn ReadWrite>> = Vec::new();
                        for place in 0..CONNECTIONS / THREADS {
                            streams.push(if place < SECURED / THREADS {
                                let name = ServerName::try_from("site.example.com").unwrap();
                                let mut session = ClientConnection::new(Arc::clone(&config), name).unwrap();
                                let mut stream = connect(secure);
                                session.complete_io(&mut stream).unwrap();
                                Box::new(StreamOwned::new(session, stream))
                            } else {
                                Box::new(connect(clear))
                            });
                        }
                        streams
                    })
                })
            })
            .collect();
        let mut streams: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        println!("{CONNECTIONS} connections were opened in {:?}", began.elapsed());
        // The last step of the last handshake may be under way still.
        await_that("all are open", || {
            let report = balancer.report();
            let count = |of: &str| report.0["layer7"]["connections"][of].as_u64().unwrap();
            assert_eq!(count("ended"), 0, "{}", report.0);
            count("opened") == CONNECTIONS as u64
        });
        let began = Instant::now();
        // Many requests are open at once, and more connections than that are always idle.
        for some in streams.chunks_mut(100) {
            for stream in &mut *some {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: site.example.com\r\n\r\n").unwrap();
                stream.flush().unwrap();
            }
            for stream in some {
                let mut answer = [0; 15];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, *b"HTTP/1.1 200 OK");
            }
        }
        println!("{CONNECTIONS} requests were answered in {:?}", began.elapsed());
        let report = balancer.stop();
        assert_eq!(report.site("secure", "sessions"), SECURED as u64, "{}", report.0);
        for (site, connections) in [("clear", CONNECTIONS - SECURED), ("secure", SECURED)] {
            assert_eq!(report.site(site, "2xx"), connections as u64, "{}", report.0);
        }
        drop(streams);
    });
}
