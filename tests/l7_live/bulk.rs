//! Large bodies, up and down, compared whole.

use std::sync::Arc;
use std::time::Instant;

use fourseven::lab::pattern::{self, Pattern};
use fourseven::lab::topology::BACKEND;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::{HOST as HOST_FIELD, HeaderValue};

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, SECURE, backends, listen, vip};
use super::talk::{Body, http1, http2, talk, tcp, tls, trusting};

/// Bytes of all transfers together, each way.
const TOTAL: u64 = 1 << 30;
const HOST: &str = "site.example.com";

/// Reads a body to its end, and holds it against the pattern.
async fn is_whole(mut body: hyper::body::Incoming, length: u64) {
    let mut place = 0;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.unwrap().into_data() else { continue };
        assert!(pattern::is_at(place, &bytes), "wrong bytes from {place} on");
        place += bytes.len() as u64;
    }
    assert_eq!(place, length);
}

/// Up and back down again, at the same time.
fn echo(scheme: &str, length: u64) -> Request<Body> {
    let body = Pattern::new(length).map_err(|never| match never {}).boxed_unsync();
    let (target, host) = match scheme {
        "" => ("/echo".to_owned(), Some(HOST)),
        scheme => (format!("{scheme}://{HOST}/echo"), None),
    };
    let mut request = Request::post(target).body(body).unwrap();
    request.headers_mut().extend(host.map(|host| (HOST_FIELD, HeaderValue::from_static(host))));
    request
}

#[test]
fn a_gigabyte_each_way_arrives_whole() {
    private("bulk::a_gigabyte_each_way_arrives_whole", || {
        let net = Net::new(1);
        let files = Files::new("bulk");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let (clear, secure, to) = (listen(&net, CLEAR), listen(&net, SECURE), backends(&net, BACKEND));
        let configuration = format!(
            "[[service]]\nname = \"clear\"\nmode = \"l7\"\nlisten = {clear}\nbackends = {to}
             [[service]]\nname = \"secure\"\nmode = \"l7\"\nlisten = {secure}\nbackends = {to}
             tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]\n"
        );
        // So much of all goes each of these ways.
        for (queues, part) in [("io = \"offload\"", 7), ("io = \"plain\"", 1)] {
            let balancer = files.start(&net.balancer, &format!("[tun]\n{queues}\n\n{configuration}"));
            let length = TOTAL / 8 * part / 4;
            let (family, other) = (FAMILIES[0], FAMILIES[1]);
            let (clear, secure) = (vip(&net, family, CLEAR), vip(&net, other, SECURE));
            let config = [&["http/1.1"], &["h2"]].map(|alpn| trusting(&files.authority.pem(), alpn));
            let [of_http1, of_http2] = config;
            talk(&net.client, move || async move {
                for way in ["HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2", "HTTP/2 over TLS"] {
                    let began = Instant::now();
                    let answer = match way {
                        "HTTP/1.1" => {
                            http1(tcp(clear).await.unwrap()).await.send_request(echo("", length)).await
                        }
                        "HTTP/1.1 over TLS" => {
                            let stream = tls(secure, HOST, Arc::clone(&of_http1)).await.unwrap();
                            http1(stream).await.send_request(echo("", length)).await
                        }
                        "HTTP/2" => {
                            http2(tcp(clear).await.unwrap()).await.send_request(echo("http", length)).await
                        }
                        _ => {
                            let stream = tls(secure, HOST, Arc::clone(&of_http2)).await.unwrap();
                            http2(stream).await.send_request(echo("https", length)).await
                        }
                    };
                    let answer = answer.unwrap();
                    assert_eq!(answer.status(), 200, "{queues}, {way}");
                    is_whole(answer.into_body(), length).await;
                    println!("{queues}, {way}: {length} bytes in {:?}", began.elapsed());
                }
            });
            let report = balancer.stop();
            assert_eq!(report.site("clear", "2xx") + report.site("secure", "2xx"), 4, "{}", report.0);
        }
    });
}
