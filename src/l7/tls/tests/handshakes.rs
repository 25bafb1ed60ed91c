//! What is agreed upon, and who is told.

use super::*;

#[test]
fn versions_and_protocols_are_agreed_upon() {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    for (name, versions, alpn, version, agreed_alpn) in [
        ("TLS 1.3 where both can", BOTH, &["h2", "http/1.1"][..], Version::Tls13, Some(Alpn::H2)),
        ("TLS 1.2 alone", ONLY_12, &["http/1.1"], Version::Tls12, Some(Alpn::Http11)),
        ("the server's choice of protocol", ONLY_13, &["http/1.1", "h2"], Version::Tls13, Some(Alpn::H2)),
        (
            "one that is not known beside one that is",
            BOTH,
            &["spdy/3", "http/1.1"],
            Version::Tls13,
            Some(Alpn::Http11),
        ),
        ("no ALPN", ONLY_12, &[], Version::Tls12, None),
    ] {
        let client = Client { versions, alpn, ..Client::new(&pem) }.build();
        let (agreed, stream) = run(agree(&terminator, &client, "a.example.com"));
        assert_eq!((agreed.version, agreed.alpn), (version, agreed_alpn), "{name}");
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            agreed_alpn.map(|alpn| alpn.word().as_bytes()),
            "{name}"
        );
        assert_eq!(agreed.handshake, Handshake::Full, "{name}");
        assert_eq!((agreed.sni.as_deref(), agreed.peer), (Some("a.example.com"), None), "{name}");
        let prefix = if version == Version::Tls13 { "TLS13_" } else { "TLS_ECDHE_ECDSA_" };
        assert!(agreed.suite.starts_with(prefix), "{name}: {}", agreed.suite);
    }
    assert_eq!(terminator.counts().full, 5);
}

#[test]
fn bytes_pass_whole_both_ways() {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    let client = Client::new(&pem).build();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    run(async {
        let (ended, client) = meet(&terminator, &client, "a.example.com").await;
        let (mut server, mut client) = (ended.unwrap().stream, client.unwrap());
        let echo = async {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            server.write_all(&all).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let ask = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), come) = join(echo, ask).await;
        assert!(come == sent);
    });
}

#[test]
fn the_hook_is_told_the_secrets_of_both_versions() {
    let authority = authority();
    let kept = Arc::new(Kept::default());
    let material = hosts(&authority, &["a.example.com"]).material("a").unwrap();
    let terminator = terminator_of(vec![material], ClientCheck::None, Some(Arc::<Kept>::clone(&kept)));
    let pem = authority.pem();
    for versions in [ONLY_13, ONLY_12] {
        run(agree(&terminator, &Client { versions, ..Client::new(&pem) }.build(), "a.example.com"));
    }
    let labels = kept.0.lock().unwrap();
    for label in
        ["CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0", "EXPORTER_SECRET", "CLIENT_RANDOM"]
    {
        assert!(labels.iter().any(|one| one == label), "{label} of {labels:?}");
    }
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_taken() {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    let client = Client::new(&pem).build();
    let hello = hello_of(client, "a.example.com");
    run(async {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let drip = async {
            for byte in hello {
                far.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            // The answer has come: the hello was understood.
            let mut answer = [0; 6];
            far.read_exact(&mut answer).await.unwrap();
            assert_eq!((answer[0], answer[5]), (22, 2), "a ServerHello");
            drop(far);
        };
        let (ended, ()) = join(terminator.accept(near, LIMIT), drip).await;
        let failure = ended.unwrap_err().failure;
        assert_eq!((failure.cause, failure.sni.as_deref()), (Cause::ClientGone, Some("a.example.com")));
    });
}

#[test]
fn a_hello_of_many_names_of_protocols_is_taken() {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    let mut client = Client::new(&pem).config();
    // Past what is read at once, and past one record.
    client.alpn_protocols = (0..100).map(|n| format!("{n:0>200}").into_bytes()).collect();
    client.alpn_protocols.push(b"h2".to_vec());
    let (agreed, _) = run(agree(&terminator, &Arc::new(client), "a.example.com"));
    assert_eq!(agreed.alpn, Some(Alpn::H2));
}
