//! A browser: headless Chromium loads a page with many parts and talks over a WebSocket, in each version of HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, SECURE, have, listen, run, vip};

const PARTS: usize = 50;

/// The page asks for its parts and over a WebSocket, writes down what it got, and says that it has. The browser takes the page
/// for loaded, and prints it, when the picture has come; the backend holds that back until then.
const PAGE: &str = r"<!doctype html><html><body><img src=/held><p id=told>nothing</p><script>
let left = 50, whole = 0, word = null;
function look() {
    if (left || word === null) return;
    const way = performance.getEntriesByType('navigation')[0].nextHopProtocol;
    document.getElementById('told').textContent = `${whole} parts, ${word}, by ${way}`;
    fetch('/told', { method: 'POST', body: 'x'.repeat(200000) });
}
for (let part = 0; part < 50; part++)
    fetch(`/part/${part}`).then(answer => answer.text()).then(text => {
        whole += text === `part ${part} `.repeat(500);
    }).finally(() => { left--; look(); });
const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/socket`);
socket.onopen = () => socket.send('a word');
socket.onmessage = message => { word = message.data; socket.close(); look(); };
socket.onerror = () => { word = 'no socket'; look(); };
</script></body></html>";

/// Whether the page has told what it got.
type Told = Arc<(Mutex<bool>, Condvar)>;

/// Serves the requests of one connection.
fn serve(stream: TcpStream, told: &Told) -> std::io::Result<()> {
    let mut to = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let field = |name: &str| {
            let field = |line: &String| {
                let (found, value) = line.split_once(": ")?;
                found.eq_ignore_ascii_case(name).then(|| value.to_owned())
            };
            head.iter().find_map(field)
        };
        let length = field("content-length").map_or(0, |length| length.parse().unwrap());
        from.read_exact(&mut vec![0; length])?;
        let path = head[0].split(' ').nth(1).unwrap_or_default();
        let (kind, body) = match path {
            "/" => ("text/html", PAGE.to_owned()),
            "/socket" => return converse(&mut from, &mut to, &field("sec-websocket-key").unwrap()),
            "/told" => {
                *told.0.lock().unwrap() = true;
                told.1.notify_all();
                ("text/plain", String::new())
            }
            "/held" => {
                let (lock, changed) = &**told;
                let wait = Duration::from_secs(20);
                let (mut told, _) =
                    changed.wait_timeout_while(lock.lock().unwrap(), wait, |told| !*told).unwrap();
                *told = false;
                ("text/plain", String::new())
            }
            path => ("text/plain", (path.trim_start_matches('/').replace('/', " ") + " ").repeat(500)),
        };
        let length = body.len();
        write!(to, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")?;
    }
}

/// Echoes one message of a WebSocket (RFC 6455) that is shorter than 126 bytes, and its close.
fn converse(from: &mut impl Read, to: &mut impl Write, key: &str) -> std::io::Result<()> {
    // §4.2.2; the digest by a program that is there anyway.
    let digest = format!("printf %s {key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11 | openssl dgst -sha1 -binary");
    let digest = Command::new("sh").args(["-c", &format!("{digest} | openssl base64")]).output()?;
    let accept = String::from_utf8_lossy(&digest.stdout).trim().to_owned();
    write!(
        to,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    for _ in 0..2 {
        let mut head = [0; 6];
        from.read_exact(&mut head)?;
        let [first, length, mask @ ..] = head;
        let mut payload = vec![0; usize::from(length & 0x7f)];
        from.read_exact(&mut payload)?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        to.write_all(&[&[first, length & 0x7f], &payload[..]].concat())?;
    }
    Ok(())
}

#[test]
fn a_browser_gets_all_parts_of_a_page_and_talks_over_a_websocket() {
    private("browser::a_browser_gets_all_parts_of_a_page_and_talks_over_a_websocket", || {
        if !have(&["chromium", "openssl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("browser");
        let backend = net.topology.backend(FAMILIES[0], 1);
        net.backends[0].host.run(move || {
            let told = Told::default();
            let listener = TcpListener::bind((backend, 9000)).unwrap();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (stream, told) = (stream.unwrap(), Arc::clone(&told));
                    thread::spawn(move || serve(stream, &told));
                }
            })
        });
        let service = |name: &str, port: u16, tls: &str| {
            format!(
                "[[service]]\nname = {name:?}\nmode = \"l7\"\nlisten = {}\nbackends = [\"{backend}:9000\"]\n{tls}\n",
                listen(&net, port)
            )
        };
        let configuration = format!(
            "[tun]\nqueues = 2\n\n{}{}",
            service("clear", CLEAR, ""),
            service("secure", SECURE, "tls = \"auto\"")
        );
        let balancer = files.start(&net.balancer, &configuration);
        for (scheme, family, option, way) in [
            ("https", FAMILIES[0], "--enable-quic=0", "h2"),
            ("https", FAMILIES[1], "--disable-http2", "http/1.1"),
            ("http", FAMILIES[1], "--enable-quic=0", "http/1.1"),
        ] {
            let url =
                format!("{scheme}://{}/", vip(&net, family, if scheme == "http" { CLEAR } else { SECURE }));
            let profile = format!("--user-data-dir={}", files.path("profile"));
            let options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
            let trust = ["--ignore-certificate-errors", "--dump-dom", option, &profile, &url];
            let arguments = [&["60", "chromium"], &options[..], &trust[..]].concat();
            let page = run(&net.client, "timeout", &arguments, b"");
            let page = String::from_utf8_lossy(&page.stdout).into_owned();
            let want = format!("{PARTS} parts, a word, by {way}");
            assert!(page.contains(&want), "{url}, {option}: no `{want}` in {page}");
        }
        let report = balancer.stop();
        assert!(report.site("secure", "h2") > PARTS as u64, "{}", report.0);
        assert_eq!(report.site("secure", "upgrades") + report.site("clear", "upgrades"), 3, "{}", report.0);
    });
}
