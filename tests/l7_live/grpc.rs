//! Calls as gRPC makes them: HTTP/2 to an HTTP/2 backend, messages both ways at once, and the status in a trailer.

use std::sync::Arc;

use bytes::Bytes;
use fourseven::lab::pattern;
use fourseven::lab::serve::{Serve, Serving};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use tokio::sync::mpsc;

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, SECURE, listen, vip};
use super::talk::{Body, get, http2, read, talk, tcp, tls, trusting};

/// A call whose messages are sent one by one, each when the one before has come back.
async fn call(mut sender: SendRequest<Body>, scheme: &str) {
    let (send, mut frames) = mpsc::channel::<Frame<Bytes>>(1);
    let stream = futures_util::stream::poll_fn(move |context| {
        frames.poll_recv(context).map(|frame| frame.map(Ok::<_, Box<dyn std::error::Error + Send + Sync>>))
    });
    let request = Request::post(format!("{scheme}://site.example.com/echo"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .body(StreamBody::new(stream).boxed_unsync())
        .unwrap();
    // The answer begins before the request has ended.
    let answer: Response<_> = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let mut body = answer.into_body();
    for length in [5, 16_384, 100_000] {
        let message: Bytes = (0..length).map(pattern::byte_at).collect();
        send.send(Frame::data(message.clone())).await.unwrap();
        let mut came = Vec::new();
        while came.len() < message.len() {
            came.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert!(came == message, "{length} bytes");
    }
    let trailers = [("grpc-status", "0"), ("grpc-message", "done")]
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    send.send(Frame::trailers(HeaderMap::from_iter(trailers))).await.unwrap();
    drop(send);
    let last = loop {
        match body.frame().await.expect("trailers").unwrap().into_trailers() {
            Ok(trailers) => break trailers,
            Err(frame) => assert_eq!(frame.into_data().unwrap(), ""),
        }
    };
    assert_eq!(
        (&last["grpc-status"], &last["grpc-message"]),
        (&"0".parse().unwrap(), &"done".parse().unwrap())
    );
    assert!(body.frame().await.is_none());
}

#[test]
fn calls_pass_whole_with_messages_both_ways_at_once_and_trailers() {
    private("grpc::calls_pass_whole_with_messages_both_ways_at_once_and_trailers", || {
        let net = Net::new(1);
        let files = Files::new("grpc");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let backend = net.topology.backend(FAMILIES[0], 1);
        let _calls = net.backends[0].host.run(move || {
            let what =
                Serve { name: "calls".into(), h2c: vec![(backend, 50_051).into()], ..Serve::default() };
            Serving::start(what).unwrap()
        });
        let balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nqueues = 2\n
                 [[service]]\nname = \"clear\"\nmode = \"l7\"\nlisten = {}\nbackends = \"calls\"
                 [[service]]\nname = \"secure\"\nmode = \"l7\"\nlisten = {}\nbackends = \"calls\"
                 tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]
                 [backends.calls]\nprotocol = \"http2\"\nmembers = [\"{backend}:50051\"]\n",
                listen(&net, CLEAR),
                listen(&net, SECURE)
            ),
        );
        let config = trusting(&files.authority.pem(), &["h2"]);
        for family in FAMILIES {
            let (clear, secure) = (vip(&net, family, CLEAR), vip(&net, family, SECURE));
            let config = Arc::clone(&config);
            talk(&net.client, move || async move {
                call(http2(tcp(clear).await.unwrap()).await, "http").await;
                let sender = http2(tls(secure, "site.example.com", config).await.unwrap()).await;
                // Calls beside each other on one connection.
                let calls = (0..10).map(|_| call(sender.clone(), "https"));
                futures_util::future::join_all(calls).await;
                let mut sender = sender;
                let answer =
                    sender.send_request(get("site.example.com", "https://site.example.com/")).await.unwrap();
                assert!(read(answer).await.1.contains("HTTP/2"));
            });
        }
        let report = balancer.stop();
        assert_eq!(report.site("clear", "2xx"), 2, "{}", report.0);
        assert_eq!(report.site("secure", "2xx"), 22, "{}", report.0);
        assert_eq!(report.group("calls", "opened") + report.group("calls", "reused"), 24, "{}", report.0);
        assert!(report.group("calls", "opened") <= 4, "{}", report.0);
    });
}
