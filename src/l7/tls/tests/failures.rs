//! Every way that a handshake fails, and what is said of it.

use super::*;

const NAME: &str = "a.example.com";

fn one() -> (Terminator, String) {
    let authority = authority();
    (terminator(&authority, &[NAME], ClientCheck::None), authority.pem())
}

/// What becomes of these bytes, and what is answered; the other end closes behind them if told to.
fn sent(terminator: &Terminator, bytes: &[u8], close: bool) -> (Refused<DuplexStream>, Vec<u8>) {
    run(async {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(bytes).await.unwrap();
        if close {
            far.shutdown().await.unwrap();
        }
        let mut refused = terminator.accept(near, LIMIT).await.expect_err("no handshake");
        if let Some(mut stream) = refused.cleartext.take() {
            stream.write_all(CLEARTEXT_ANSWER).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        (refused, answer)
    })
}

#[test]
fn what_does_not_shake_hands_is_told_by_its_bytes() {
    for (name, bytes, close, want) in [
        ("nothing, and closed", &b""[..], true, Cause::ClosedUnused),
        ("nothing, and silent", b"", false, Cause::Timeout),
        ("half a header, and silent", &[22, 3, 1], false, Cause::Timeout),
        ("half a hello, and closed", &[22, 3, 1, 2, 0, 1, 0, 1], true, Cause::ClientGone),
        ("an e-mail", b"EHLO mail.example.com\r\n", false, Cause::NotTls),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", false, Cause::NotTls),
        ("zeroes", &[0; 64], false, Cause::NotTls),
        ("a word that goes on like no method, and closed", b"GE", true, Cause::NotTls),
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", false, Cause::CleartextHttp),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false, Cause::CleartextHttp),
        ("a record that is no hello", &[22, 3, 1, 0, 4, 2, 0, 0, 0], false, Cause::BadMessage),
        ("a hello of noise", &[22, 3, 1, 0, 8, 1, 0, 0, 4, 9, 9, 9, 9], false, Cause::BadMessage),
        ("a record that is too long", &[22, 3, 1, 255, 255, 1, 0, 0], false, Cause::BadMessage),
        ("an alert at once", &[21, 3, 1, 0, 2, 2, 70], false, Cause::NegotiationAlert),
    ] {
        let (terminator, _) = one();
        let (refused, answer) = sent(&terminator, bytes, close);
        assert_eq!(refused.failure.cause, want, "{name}: {}", refused.failure);
        assert_eq!(refused.failure.side, want.side(), "{name}");
        assert_eq!(refused.failure.sni, None, "{name}");
        assert_eq!(terminator.counts().failed_by(want), 1, "{name}");
        assert_eq!(terminator.counts().failed(), 1, "{name}");
        let want = if want == Cause::CleartextHttp { CLEARTEXT_ANSWER } else { b"" };
        let alert = answer.starts_with(&[21, 3]) && refused.failure.cause == Cause::BadMessage;
        assert!(alert || answer == want, "{name}: {answer:?}");
    }
}

#[test]
fn a_client_that_shares_nothing_is_told_and_named() {
    use rustls::crypto::aws_lc_rs::cipher_suite;
    let (terminator, pem) = one();
    let with = |change: &dyn Fn(&mut rustls::crypto::CryptoProvider)| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        change(&mut provider);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(At(NOW)))
            .with_protocol_versions(ONLY_12)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    };
    // The site's key is ECDSA.
    let cipher = with(&|it| it.cipher_suites = vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
    let protocol = Client { alpn: &["imap"], ..Client::new(&pem) }.build();
    for (name, client, want) in
        [("cipher", &cipher, Cause::NoSharedCipher), ("protocol", &protocol, Cause::NoSharedProtocol)]
    {
        let failure = run(fail(&terminator, client, NAME));
        assert_eq!((failure.cause, failure.side), (want, Side::Ours), "{name}: {failure}");
        assert_eq!(failure.sni.as_deref(), Some(NAME), "{name}");
    }
}

/// A hello of one's own: its legacy version, and its extensions.
fn hello(version: [u8; 2], suites: &[u8], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let mut body = [&version[..], &[7; 32], &[0], &length(suites), suites, &[1, 0]].concat();
    let all: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes(), &length(data), &data[..]].concat())
        .collect();
    body.extend([&length(&all)[..], &all].concat());
    let message = [&[1, 0][..], &length(&body), &body].concat();
    [&[22, 3, 1][..], &length(&message), &message].concat()
}

/// The name, P-256, and ECDSA with P-256.
fn extensions(groups: &[u8], signatures: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let listed = |items: &[u8]| [&u16::try_from(items.len()).unwrap().to_be_bytes()[..], items].concat();
    let name = [&[0][..], &listed(NAME.as_bytes())].concat();
    vec![(0, listed(&name)), (10, listed(groups)), (11, vec![1, 0]), (13, listed(signatures)), (23, vec![])]
}

#[test]
fn hellos_of_old_or_odd_clients_are_refused_by_name() {
    const P256: &[u8] = &[0, 23];
    const ECDSA: &[u8] = &[4, 3];
    const AES: &[u8] = &[0xc0, 0x2b];
    for (name, bytes, want) in [
        ("TLS 1.0", hello([3, 1], AES, &extensions(P256, ECDSA)), Cause::NoSharedVersion),
        ("TLS 1.1", hello([3, 2], AES, &extensions(P256, ECDSA)), Cause::NoSharedVersion),
        ("a suite of old", hello([3, 3], &[0, 0x2f], &extensions(P256, ECDSA)), Cause::NoSharedCipher),
        ("a group that is not known", hello([3, 3], AES, &extensions(&[0, 1], ECDSA)), Cause::NoSharedGroup),
        (
            "a signature that no key makes",
            hello([3, 3], AES, &extensions(P256, &[2, 3])),
            Cause::NoSharedSignature,
        ),
    ] {
        let (terminator, _) = one();
        let (refused, answer) = sent(&terminator, &bytes, false);
        assert_eq!(refused.failure.cause, want, "{name}: {}", refused.failure);
        assert_eq!(refused.failure.sni.as_deref(), Some(NAME), "{name}");
        assert_eq!(answer.first(), Some(&21), "{name}: the client is told by an alert");
    }
}

#[test]
fn what_clients_say_of_our_certificate_is_named() {
    let (terminator, pem) = one();
    let unknown = stranger().pem();
    let unknown = Client::new(&unknown).build();
    let mut late = Client::new(&pem).config();
    late.time_provider = Arc::new(At(NOW + 400 * 86_400));
    for (name, client, asked, want) in [
        ("unknown authority", unknown, NAME, Cause::UnknownCaAlert),
        ("another name", Client::new(&pem).build(), "b.example.com", Cause::BadCertificateAlert),
        ("out of time", Arc::new(late), NAME, Cause::CertificateExpiredAlert),
    ] {
        let failure = run(fail(&terminator, &client, asked));
        assert_eq!((failure.cause, failure.side), (want, Side::Theirs), "{name}: {failure}");
        assert_eq!(failure.sni.as_deref(), Some(asked), "{name}");
    }
}

#[test]
fn a_client_that_stops_midway_is_given_up_in_time() {
    for (name, version, keep) in
        [("silent", ONLY_13, true), ("gone", ONLY_13, false), ("gone, TLS 1.2", ONLY_12, false)]
    {
        let (terminator, pem) = one();
        let client = Client { versions: version, ..Client::new(&pem) }.build();
        let (failure, waited) = run(async {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            // The hello alone: what rustls would say to the answer never goes out.
            let bytes = hello_of(client, NAME);
            far.write_all(&bytes).await.unwrap();
            let held = if keep {
                Some(far)
            } else {
                drop(far);
                None
            };
            let begin = tokio::time::Instant::now();
            let refused = terminator.accept(near, LIMIT).await.expect_err("no handshake");
            drop(held);
            (refused.failure, begin.elapsed())
        });
        let (want, at_least) =
            if keep { (Cause::Timeout, LIMIT) } else { (Cause::ClientGone, Duration::ZERO) };
        assert_eq!((failure.cause, failure.side), (want, Side::Transport), "{name}: {failure}");
        assert_eq!(failure.sni.as_deref(), Some(NAME), "{name}");
        assert!(waited >= at_least && waited < at_least + Duration::from_millis(50), "{name}: {waited:?}");
    }
}

#[test]
fn any_bytes_end_in_a_cause() {
    use proptest::prelude::*;
    let (terminator, _) = one();
    proptest!(ProptestConfig::with_cases(200), |(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), tls: bool)| {
        if tls {
            bytes.splice(..0, [22, 3, 1]);
        }
        let _ = sent(&terminator, &bytes, true);
    });
}

#[test]
fn causes_have_words_of_their_own_and_details_are_one_line() {
    let words: std::collections::BTreeSet<_> = Cause::ALL.iter().map(|cause| cause.word()).collect();
    assert_eq!(words.len(), Cause::ALL.len());
    let (terminator, _) = one();
    let (refused, _) = sent(&terminator, b"\r\n\x1b[31mevil", true);
    assert_eq!(
        refused.failure.to_string(),
        "side=ours cause=not_tls sni=-: it began with \\r\\n\\x1b[31mevil"
    );
}
