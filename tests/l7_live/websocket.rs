//! WebSocket (RFC 6455), by hand on both sides: what is upgraded is bytes, both ways, until either side ends it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, SECURE, listen, vip};
use super::talk::{PATIENCE, trusting};

/// The example of RFC 6455 §1.3: the one key whose answer needs no SHA-1 here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// Writes one unfragmented frame; clients mask theirs (§5.1).
fn write_frame(to: &mut impl Write, opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(masked | u8::try_from(length).unwrap()),
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let key = mask.unwrap_or_default();
    frame.extend(mask.into_iter().flatten());
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    to.write_all(&frame).unwrap();
    to.flush().unwrap();
}

fn read_frame(from: &mut impl Read) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    from.read_exact(&mut head).unwrap();
    let length = match head[1] & 0x7f {
        127 => {
            let mut long = [0; 8];
            from.read_exact(&mut long).unwrap();
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    let mut key = [0; 4];
    if head[1] & 0x80 != 0 {
        from.read_exact(&mut key).unwrap();
    }
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).unwrap();
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    (head[0] & 0xf, payload)
}

fn head(from: &mut impl BufRead) -> Vec<String> {
    let lines = from.lines().map(|line| line.unwrap()).take_while(|line| !line.is_empty());
    lines.map(|line| line.to_lowercase()).collect()
}

/// Echoes the messages of one client, and greets it in the same write as the answer's head.
fn echo(stream: TcpStream) {
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::new(stream);
    let asked = head(&mut from);
    for line in ["upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13"] {
        assert!(asked.contains(&line.to_owned()), "{line} is not among {asked:?}");
    }
    assert!(asked.contains(&format!("sec-websocket-key: {}", KEY.to_lowercase())), "{asked:?}");
    let mut first = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    )
    .into_bytes();
    write_frame(&mut first, BINARY, b"hello", None);
    to.write_all(&first).unwrap();
    loop {
        let (opcode, payload) = read_frame(&mut from);
        write_frame(&mut to, opcode, &payload, None);
        if opcode == CLOSE {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// A conversation of a client; the first message goes out in the same write as the head.
fn converse<S: Read + Write>(stream: S) {
    let mut stream = BufReader::new(stream);
    let mut first = format!(
        "GET /chat HTTP/1.1\r\nHost: site.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes();
    write_frame(&mut first, BINARY, b"at once", Some(MASK));
    stream.get_mut().write_all(&first).unwrap();
    let answered = head(&mut stream);
    assert!(answered[0].starts_with("http/1.1 101"), "{answered:?}");
    let accept = format!("sec-websocket-accept: {}", ACCEPT.to_lowercase());
    for line in ["upgrade: websocket", "connection: upgrade", &accept] {
        assert!(answered.iter().any(|had| had == line), "{line} is not among {answered:?}");
    }
    assert_eq!(read_frame(&mut stream), (BINARY, b"hello".to_vec()));
    assert_eq!(read_frame(&mut stream), (BINARY, b"at once".to_vec()));
    for length in [0, 1, 125, 126, 1000, 100_000, 1_000_000] {
        let message: Vec<u8> = (0..length).map(fourseven::lab::pattern::byte_at).collect();
        write_frame(stream.get_mut(), BINARY, &message, Some(MASK));
        assert!(read_frame(&mut stream) == (BINARY, message), "{length} bytes");
    }
    write_frame(stream.get_mut(), CLOSE, &[3, 232], Some(MASK));
    assert_eq!(read_frame(&mut stream), (CLOSE, vec![3, 232]));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "behind the end");
}

#[test]
fn messages_are_echoed_until_the_close() {
    private("websocket::messages_are_echoed_until_the_close", || {
        let net = Net::new(1);
        let files = Files::new("websocket");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let backend = net.topology.backend(FAMILIES[0], 1);
        net.backends[0].host.run(move || {
            let listener = TcpListener::bind((backend, 9000)).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    thread::spawn(move || echo(stream));
                }
            })
        });
        let service = |name: &str, port: u16, tls: &str| {
            format!(
                "[[service]]\nname = {name:?}\nmode = \"l7\"\nlisten = {}\nbackends = [\"{backend}:9000\"]\n{tls}\n",
                listen(&net, port)
            )
        };
        let tls = "tls = [{ chain = \"site.pem\", key = \"site.key\" }]";
        let configuration =
            format!("[tun]\nqueues = 2\n\n{}{}", service("clear", CLEAR, ""), service("secure", SECURE, tls));
        let balancer = files.start(&net.balancer, &configuration);
        let config = trusting(&files.authority.pem(), &["http/1.1"]);
        for family in FAMILIES {
            let (clear, secure) = (vip(&net, family, CLEAR), vip(&net, family, SECURE));
            let config = Arc::clone(&config);
            net.client.run(move || {
                let connect = |to| {
                    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream
                };
                converse(connect(clear));
                let name = ServerName::try_from("site.example.com").unwrap();
                let session = ClientConnection::new(config, name).unwrap();
                converse(StreamOwned::new(session, connect(secure)));
            });
        }
        // The end of the last one may be under way still.
        thread::sleep(Duration::from_millis(200));
        let report = balancer.stop();
        for site in ["clear", "secure"] {
            for (of, want) in [("requests", 2), ("upgrades", 2), ("1xx", 2)] {
                assert_eq!(report.site(site, of), want, "{site} {of}: {}", report.0);
            }
            assert_eq!(report.group(site, "upgraded"), 2, "{site}: {}", report.0);
        }
    });
}
