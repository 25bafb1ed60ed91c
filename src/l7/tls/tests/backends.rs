//! The other side: TLS to backends.

use super::*;
use crate::l7::spec::UpstreamProtocol;

const NAME: &str = "backend.example.com";

fn client(trusts: &Authority, name: Option<&str>, protocol: UpstreamProtocol) -> BackendClient {
    let time = Arc::new(At(NOW));
    BackendClient::new(BackendSetup { authorities: trusted(trusts), name, protocol, key_log: None, time })
        .unwrap()
}

async fn reach(
    client: &BackendClient,
    backend: &Terminator,
    address: &str,
) -> Result<Agreed, BackendFailure> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serve = async {
        if let Ok(mut secured) = backend.accept(far, LIMIT).await {
            let _ = secured.stream.write_all(b"!").await;
            let _ = secured.stream.flush().await;
        }
    };
    let connect = async {
        let (mut stream, agreed) = client.connect(near, address.parse().unwrap()).await?;
        let mut byte = [0];
        let read = stream.read_exact(&mut byte).await;
        // In TLS 1.3 the backend's last word on the handshake comes behind it.
        read.map(|_| agreed).map_err(|error| BackendFailure::from(&error))
    };
    join(serve, connect).await.1
}

#[test]
fn backends_are_reached_by_name_and_by_address_and_resumed() {
    let authority = authority();
    let subject = Subject { hosts: &[NAME], addresses: &["10.0.0.1".parse().unwrap()] };
    let material = authority.server(subject).unwrap().material("backend").unwrap();
    let backend = terminator_of(vec![material], ClientCheck::None, None);
    run(async {
        for (name, protocol, alpn) in
            [(Some(NAME), UpstreamProtocol::Http1, Alpn::Http11), (None, UpstreamProtocol::Http2, Alpn::H2)]
        {
            let client = client(&authority, name, protocol);
            let first = reach(&client, &backend, "10.0.0.1").await.unwrap();
            assert_eq!(
                (first.alpn, first.sni.as_deref(), first.handshake),
                (Some(alpn), name, Handshake::Full)
            );
            let second = reach(&client.clone(), &backend, "10.0.0.1").await.unwrap();
            assert_eq!(second.handshake, Handshake::Resumed);
        }
    });
}

#[test]
fn what_is_wrong_with_a_backend_is_named() {
    let (ours, others) = (authority(), stranger());
    let plain = || terminator(&ours, &[NAME], ClientCheck::None);
    let http1 = |trusts, name| client(trusts, Some(name), UpstreamProtocol::Http1);
    let checks = terminator(&ours, &[NAME], ClientCheck::Required(trusted(&ours)));
    let late = BackendClient::new(BackendSetup {
        authorities: trusted(&ours),
        name: Some(NAME),
        protocol: UpstreamProtocol::Http1,
        key_log: None,
        time: Arc::new(At(NOW + 400 * 86_400)),
    });
    for (case, client, backend, want) in [
        ("signed by a stranger", http1(&others, NAME), plain(), BackendCause::UnknownIssuer),
        ("another's certificate", http1(&ours, "x.example.com"), plain(), BackendCause::WrongName),
        (
            "no certificate for the address",
            client(&ours, None, UpstreamProtocol::Http1),
            plain(),
            BackendCause::WrongName,
        ),
        ("out of time", late.unwrap(), plain(), BackendCause::OutOfTime),
        ("wants a certificate", http1(&ours, NAME), checks, BackendCause::WantsCertificate),
    ] {
        let failure = run(reach(&client, &backend, "10.0.0.1")).unwrap_err();
        assert_eq!(failure.cause, want, "{case}: {failure}");
    }
}

#[test]
fn a_backend_that_does_not_speak_tls_is_named() {
    let authority = authority();
    let client = client(&authority, Some(NAME), UpstreamProtocol::Http1);
    for (name, answer, want) in [
        ("HTTP in the clear", &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], BackendCause::NotTls),
        ("nothing", b"", BackendCause::Gone),
        ("an alert", &[21, 3, 3, 0, 2, 2, 40], BackendCause::NothingShared),
        ("no protocol shared", &[21, 3, 3, 0, 2, 2, 120], BackendCause::NoSharedProtocol),
    ] {
        let failure = run(async {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            far.write_all(answer).await.unwrap();
            far.shutdown().await.unwrap();
            client.connect(near, "10.0.0.1".parse().unwrap()).await.unwrap_err()
        });
        assert_eq!(failure.cause, want, "{name}: {failure}");
    }
}

#[test]
fn http2_to_a_backend_that_knows_no_alpn_is_refused() {
    let authority = authority();
    let material = hosts(&authority, &[NAME]).material("backend").unwrap();
    let mut config = rustls::ServerConfig::builder_with_details(provider(), Arc::new(At(NOW)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(material.certified()))));
    config.alpn_protocols = Vec::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    for (protocol, want) in
        [(UpstreamProtocol::Http1, None), (UpstreamProtocol::Http2, Some(BackendCause::NoSharedProtocol))]
    {
        let client = client(&authority, Some(NAME), protocol);
        let ended = run(async {
            let (near, far) = tokio::io::duplex(64 * 1024);
            join(client.connect(near, "10.0.0.1".parse().unwrap()), acceptor.accept(far)).await.0
        });
        assert_eq!(ended.err().map(|failure| failure.cause), want);
    }
}

#[test]
fn a_name_that_is_none_is_refused() {
    let setup = BackendSetup {
        authorities: trusted(&authority()),
        name: Some("not a name"),
        protocol: UpstreamProtocol::Http1,
        key_log: None,
        time: Arc::new(At(NOW)),
    };
    let why = BackendClient::new(setup).unwrap_err().to_string();
    assert_eq!(why, "`not a name` is neither a DNS name nor an address");
}
