//! Which certificate is shown, and how they are swapped.

use rustls::SignatureScheme as Scheme;

use super::*;

#[test]
fn the_certificate_fits_the_name() {
    let authority = authority();
    let names = ["default.example.com", "a.example.com", "*.example.com", "*.b.example.com"];
    let terminator = terminator(&authority, &names, ClientCheck::None);
    let pem = authority.pem();
    let client = Client::new(&pem).build();
    run(async {
        for (asked, want) in [
            ("a.example.com", "a.example.com"),
            ("A.Example.COM", "a.example.com"),
            ("c.example.com", "*.example.com"),
            ("b.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
        ] {
            let (agreed, stream) = agree(&terminator, &client, asked).await;
            assert_eq!(shown(&stream), [want], "{asked}");
            assert_eq!(agreed.sni.as_deref(), Some(asked.to_ascii_lowercase().as_str()));
        }
    });
}

#[test]
fn the_first_certificate_is_for_names_that_fit_none_and_for_clients_that_name_none() {
    let (one, other) = (authority(), authority());
    let issued =
        one.server(Subject { hosts: &["first.example.com"], addresses: &["203.0.113.1".parse().unwrap()] });
    let second = hosts(&other, &["*.example.com"]).material("second").unwrap();
    let terminator =
        terminator_of(vec![issued.unwrap().material("first").unwrap(), second], ClientCheck::None, None);
    let pem = one.pem();
    let client = Client::new(&pem).build();
    run(async {
        // An address is no SNI.
        let (agreed, stream) = agree(&terminator, &client, "203.0.113.1").await;
        assert_eq!(agreed.sni, None);
        assert_eq!(shown(&stream), ["first.example.com", "203.0.113.1"]);
        // A wildcard is for one label, and not for none; so these get the first, which is not for them.
        for name in ["example.com", "a.b.example.com", "example.org"] {
            let (_, stream) = meet(&terminator, &client, name).await;
            let why = stream.unwrap_err().to_string();
            assert!(why.contains("first.example.com"), "{name}: {why}");
        }
    });
}

#[test]
fn of_two_certificates_for_one_name_the_client_gets_the_one_that_it_can_verify() {
    let pem = |name, bytes| Pem { name, bytes };
    let ecdsa = Material::from_pem(
        pem("p256.pem", include_bytes!("pem/p256.pem")),
        pem("p256.key", include_bytes!("pem/p256-sec1.key")),
    );
    let rsa = Material::from_pem(
        pem("rsa.pem", include_bytes!("pem/rsa.pem")),
        pem("rsa.key", include_bytes!("pem/rsa-pkcs1.key")),
    );
    let terminator = terminator_of(vec![ecdsa.unwrap(), rsa.unwrap()], ClientCheck::None, None);
    let first = |schemes: &[Scheme]| {
        let mut client = Client::new("").config();
        client.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(schemes.to_vec())));
        let (_, stream) = run(meet(&terminator, &Arc::new(client), "keys.example.com"));
        let stream = stream?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).unwrap().len();
        // The one with the longer key is the longer one.
        io::Result::Ok(if leaf > 600 { "RSA" } else { "ECDSA" })
    };
    assert_eq!(first(&[Scheme::RSA_PSS_SHA256, Scheme::ECDSA_NISTP256_SHA256]).unwrap(), "ECDSA");
    assert_eq!(first(&[Scheme::RSA_PSS_SHA256]).unwrap(), "RSA");
    assert!(first(&[Scheme::ED25519]).is_err());
    assert_eq!(terminator.counts().failed_by(Cause::NoSharedSignature), 1);
}

#[test]
fn a_swap_shows_the_new_ones_to_those_who_come_after() {
    let (old, new) = (authority(), authority());
    let terminator = terminator(&old, &["a.example.com"], ClientCheck::None);
    let (old_pem, new_pem) = (old.pem(), new.pem());
    run(async {
        agree(&terminator, &Client::new(&old_pem).build(), "a.example.com").await;
        let material = hosts(&new, &["a.example.com"]).material("new");
        terminator.certificates().swap([material.map_err(SetupError::from)]).unwrap();
        agree(&terminator.clone(), &Client::new(&new_pem).build(), "a.example.com").await;
        assert_eq!(terminator.certificates().swapped(), 1);
    });
}

#[test]
fn a_swap_with_broken_material_is_refused_and_the_last_good_ones_stay() {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    let issued = hosts(&authority, &["b.example.com"]);
    let good = || issued.material("b.pem").map_err(SetupError::from);
    // As a reader sees a file that is being written.
    let half = Issued { chain: issued.chain[..issued.chain.len() / 2].to_owned(), key: issued.key.clone() };
    let certificates = terminator.certificates();
    let why = certificates.swap([good(), half.material("half.pem").map_err(SetupError::from)]).unwrap_err();
    assert_eq!(why.to_string(), "half.pem: broken PEM: `-----END CERTIFICATE-----` is missing");
    let none: Result<(), SetupError> = certificates.swap([]);
    assert_eq!(none.unwrap_err().to_string(), "no certificate was given");
    assert_eq!((certificates.swapped(), certificates.refused()), (0, 2));
    assert_eq!(certificates.materials().len(), 1);
    let (_, stream) = run(agree(&terminator, &Client::new(&pem).build(), "a.example.com"));
    assert_eq!(shown(&stream), ["a.example.com"]);
}

#[test]
fn no_handshake_fails_while_certificates_are_swapped_under_it() {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    let others: Vec<_> =
        (0..4).map(|_| hosts(&authority, &["a.example.com"]).material("a").unwrap()).collect();
    run(async {
        let handshakes = (0..100).map(|number| {
            let versions = if number % 2 == 0 { ONLY_12 } else { ONLY_13 };
            let client = Client { versions, ..Client::new(&pem) }.build();
            let terminator = terminator.clone();
            async move { meet(&terminator, &client, "a.example.com").await }
        });
        let all = futures_util::future::join_all(handshakes);
        let swaps = async {
            for round in 0..400 {
                let next = others[round % others.len()].clone();
                terminator.certificates().swap([Ok::<_, SetupError>(next)]).unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (ended, ()) = join(all, swaps).await;
        for (server, client) in ended {
            assert!(server.is_ok() && client.is_ok(), "{:?}", client.err());
        }
    });
    let counts = terminator.counts();
    assert_eq!((counts.full, counts.failed(), terminator.certificates().swapped()), (100, 0, 400));
}
