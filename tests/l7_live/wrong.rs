//! What is no HTTP, no TLS, or never ends: each is refused in its own words, in its own time, and counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use fourseven::lab::topology::BACKEND;
use nix::sys::signal::Signal;

use super::balancer::Report;
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, SECURE, backends, listen, vip};
use super::talk::{PATIENCE, get, http1, read, talk, tcp, tls, trusting};

/// Sends this, and reads until the other end closes; a reset is an end like another.
fn exchange(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer,
            Ok(length) => answer.extend(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("it is not closed: {error}"),
        }
    }
}

/// Sends a byte now and then, until the other end has had enough. Gives what came, and when.
fn trickle(to: SocketAddr, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    for byte in bytes.iter().cycle() {
        assert!(began.elapsed() < PATIENCE, "it is not closed");
        let _ = stream.write_all(&[*byte]);
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    (answer, began.elapsed())
}

#[test]
fn what_is_wrong_is_refused_in_time_and_counted_and_the_rest_goes_on() {
    private("wrong::what_is_wrong_is_refused_in_time_and_counted_and_the_rest_goes_on", || {
        let net = Net::new(1);
        let files = Files::new("wrong");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let patience = "[service.patience]\nhandshake = \"1s\"\nhead = \"1s\"\nkeep_alive = \"1s\"\n";
        let (clear, secure, to) = (listen(&net, CLEAR), listen(&net, SECURE), backends(&net, BACKEND));
        let balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nio = \"offload\"\n
                 [[service]]\nname = \"clear\"\nmode = \"l7\"\nlisten = {clear}\nbackends = {to}\n{patience}
                 [[service]]\nname = \"secure\"\nmode = \"l7\"\nlisten = {secure}\nbackends = {to}
                 tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]\n{patience}"
            ),
        );
        let config = trusting(&files.authority.pem(), &["http/1.1"]);
        for family in FAMILIES {
            let (clear, secure) = (vip(&net, family, CLEAR), vip(&net, family, SECURE));
            let config = std::sync::Arc::clone(&config);
            net.client.run(move || {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                // HTTP where TLS is spoken.
                let answer = text(exchange(secure, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
                assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
                // Noise where TLS is spoken gets an alert at most.
                let answer = exchange(secure, &[0xa5; 200]);
                assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
                // TLS where HTTP is spoken: a hello's first bytes.
                let answer = exchange(clear, &[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 7, 7, 7, 7, 7, 7, 13, 10, 13, 10]);
                assert!(!text(answer).contains(" 200 "));
                for (bytes, status) in [
                    (&b"\0\x01\x02\xff\r\n\r\n"[..], "400"),
                    (b"GET / HTTP/1.1\r\n\r\n", "400"),
                    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
                    (b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n z\r\n\r\n", "400"),
                    (b"GET / HTTP/1.1\nHost: a\n\n", "400"),
                    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
                    (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
                    (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "501"),
                    (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "505"),
                ] {
                    let answer = text(exchange(clear, bytes));
                    let case = String::from_utf8_lossy(bytes);
                    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case:?}: {answer:?}");
                }
                // Heads that never end, of both kinds, and handshakes that do not; all at once.
                let slow: Vec<_> = [
                    (clear, &b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaa"[..], "HTTP/1.1 408 "),
                    (clear, b"P", ""),
                    (secure, b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03\x03\x03\x03\x03", ""),
                ]
                .into_iter()
                .map(|(to, bytes, begins)| (thread::spawn(move || trickle(to, bytes)), begins))
                .collect();
                // One that says nothing is closed too, and one that has been answered and then says nothing.
                let silent = thread::spawn(move || {
                    let began = Instant::now();
                    exchange(clear, b"");
                    exchange(secure, b"");
                    exchange(clear, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    began.elapsed()
                });
                for (thread, begins) in slow {
                    let (answer, took) = thread.join().unwrap();
                    assert!(text(answer.clone()).starts_with(begins), "{begins}: {answer:?}");
                    let of = Duration::from_millis(900)..Duration::from_secs(5);
                    assert!(of.contains(&took), "{begins}: {took:?}");
                }
                let took = silent.join().unwrap();
                assert!((Duration::from_millis(2700)..Duration::from_secs(10)).contains(&took), "{took:?}");
            });
            talk(&net.client, move || async move {
                let mut sender = http1(tcp(clear).await.unwrap()).await;
                assert_eq!(read(sender.send_request(get("a", "/")).await.unwrap()).await.0, 200);
                let mut sender = http1(tls(secure, "site.example.com", config).await.unwrap()).await;
                assert_eq!(read(sender.send_request(get("a", "/")).await.unwrap()).await.0, 200);
            });
        }
        balancer.signal(Signal::SIGTERM);
        let (status, out, said) = balancer.end();
        assert!(status.success() && !said.contains("panicked"), "{said}");
        let report = Report::read(&out);
        assert_eq!(report.0["agree"], true, "{out}");
        for (site, word, times) in [
            ("clear", "2xx", 4),
            ("secure", "2xx", 2),
            ("secure", "cleartext_http", 2),
            ("secure", "not_tls", 2),
            ("secure", "timeout", 4),
            ("clear", "no_host", 2),
            ("clear", "doubled_host", 2),
            ("clear", "obs_fold", 2),
            ("clear", "bare_lf", 2),
            ("clear", "both_lengths", 2),
            ("clear", "bad_method", 2),
            ("clear", "head_timeout", 4),
        ] {
            assert_eq!(report.site(site, word), times, "{site} {word}: {out}\n{said}");
        }
    });
}
