//! What is read from files: every kind of key, and every kind of mistake.

use super::*;

macro_rules! sample {
    ($name:literal) => {
        Pem { name: $name, bytes: include_bytes!(concat!("pem/", $name)) }
    };
}

#[test]
fn keys_of_every_kind_and_wrapping_are_taken() {
    for (chain, key) in [
        (sample!("rsa.pem"), sample!("rsa-pkcs8.key")),
        (sample!("rsa.pem"), sample!("rsa-pkcs1.key")),
        (sample!("p256.pem"), sample!("p256-pkcs8.key")),
        (sample!("p256.pem"), sample!("p256-sec1.key")),
        (sample!("p384.pem"), sample!("p384-sec1.key")),
        (sample!("ed25519.pem"), sample!("ed25519.key")),
    ] {
        let material = Material::from_pem(chain, key).unwrap_or_else(|why| panic!("{}: {why}", key.name));
        assert_eq!(material.names().collect::<Vec<_>>(), ["keys.example.com"], "{}", key.name);
        assert_eq!(material.warnings(at(NOW)), [], "{}", key.name);
    }
}

#[test]
fn each_kind_of_key_serves_both_versions() {
    for (name, chain, key) in [
        ("RSA", sample!("rsa.pem"), sample!("rsa-pkcs1.key")),
        ("P-256", sample!("p256.pem"), sample!("p256-sec1.key")),
        ("P-384", sample!("p384.pem"), sample!("p384-sec1.key")),
        ("Ed25519", sample!("ed25519.pem"), sample!("ed25519.key")),
    ] {
        let own = String::from_utf8(chain.bytes.to_vec()).unwrap();
        for versions in [ONLY_12, ONLY_13] {
            let terminator =
                terminator_of(vec![Material::from_pem(chain, key).unwrap()], ClientCheck::None, None);
            let mut client = Client { versions, ..Client::new(&own) }.config();
            // These are authorities of their own, by which OpenSSL marks what it signs by itself; no client takes such a leaf.
            client.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(every_scheme())));
            let (_, stream) = run(meet(&terminator, &Arc::new(client), "keys.example.com"));
            assert!(stream.is_ok(), "{name}: {:?}", stream.err());
        }
    }
}

#[test]
fn a_chain_and_its_key_may_be_one_file() {
    let issued = hosts(&authority(), &["one.example.com"]);
    let both = format!("{}{}", issued.key, issued.chain);
    let file = Pem { name: "both.pem", bytes: both.as_bytes() };
    assert!(Material::from_pem(file, file).is_ok());
}

#[test]
fn what_is_wrong_is_said_with_the_file() {
    let (chain, key) = (sample!("p256.pem"), sample!("p256-sec1.key"));
    let text = |name, text| Pem { name, bytes: str::as_bytes(text) };
    let der = Pem { name: "der.pem", bytes: &[0x30, 0x82, 0x01, 0xff, 0x30, 0x82] };
    let other = hosts(&authority(), &["x.example.com"]);
    let chain_text = std::str::from_utf8(chain.bytes).unwrap();
    let reversed = format!("{}{chain_text}", other.chain);
    let cut = &chain_text[..chain_text.len() / 2];
    let not_base64 = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let not_a_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (name, chain, key, want) in [
        ("empty", text("a.pem", " \n"), key, "a.pem: the file is empty"),
        ("not PEM", text("a.pem", "hello"), key, "a.pem: not a PEM file"),
        ("DER", der, key, "der.pem: not PEM, but what looks like DER"),
        ("cut off", text("a.pem", cut), key, "a.pem: broken PEM: `-----END CERTIFICATE-----` is missing"),
        ("not base64", text("a.pem", not_base64), key, "a.pem: broken PEM: what stands between"),
        ("the key in place of the chain", key, key, "p256-sec1.key: no certificate in it, but a private key"),
        ("the chain in place of the key", chain, chain, "p256.pem: no private key in it, but a certificate"),
        (
            "damaged certificate",
            text("a.pem", not_a_certificate),
            key,
            "a.pem: certificate 1 of the file cannot be read",
        ),
        ("damaged key", chain, text("a.key", not_a_key), "a.key: the private key cannot be used"),
        (
            "encrypted PKCS#8",
            chain,
            sample!("encrypted-pkcs8.key"),
            "encrypted-pkcs8.key: the private key is encrypted",
        ),
        (
            "encrypted SEC1",
            chain,
            sample!("encrypted-sec1.key"),
            "encrypted-sec1.key: the private key is encrypted",
        ),
        (
            "another's key",
            chain,
            sample!("rsa-pkcs8.key"),
            "rsa-pkcs8.key: the private key is not the one of the first certificate in p256.pem",
        ),
        (
            "the leaf not first",
            text("chain.pem", &reversed),
            key,
            "p256-sec1.key: the private key is not the one of the first certificate in chain.pem, but of the one at 2: the leaf must come first",
        ),
    ] {
        let why = Material::from_pem(chain, key).expect_err(name).to_string();
        assert!(why.starts_with(want), "{name}: {why}");
        assert!(!why.contains('\n'), "{name}: {why}");
    }
}

#[test]
fn any_bytes_are_refused_without_a_panic() {
    use proptest::prelude::*;
    let (whole, key) = (sample!("p256.pem"), sample!("p256-sec1.key"));
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..700_usize)| {
        assert!(Material::from_pem(Pem { name: "any", bytes: &bytes }, key).is_err());
        let mut damaged = whole.bytes.to_vec();
        if let (Some(place), Some(byte)) = (damaged.get_mut(cut), bytes.first()) {
            *place = *byte;
        }
        let _ = Material::from_pem(Pem { name: "damaged", bytes: &damaged }, key);
    });
}

#[test]
fn what_is_out_of_its_time_is_a_warning() {
    let material = hosts(&authority(), &["a.example.com"]).material("a.pem").unwrap();
    assert_eq!(material.warnings(at(NOW)), []);
    let year = 365 * 86_400;
    let words = |now| material.warnings(at(now)).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(words(NOW + year + 86_400), ["a.pem: expired 2 days ago"]);
    assert_eq!(words(NOW - 86_400 - 3 * 3600), ["a.pem: not valid for another 3 h"]);
}

#[test]
fn a_chain_whose_links_do_not_meet_is_a_warning() {
    let (one, other) = (authority(), Authority::new("another", at(NOW)).unwrap());
    let leaf = hosts(&one, &["a.example.com"]);
    let whole = Issued { chain: format!("{}{}", leaf.chain, one.pem()), key: leaf.key.clone() };
    assert_eq!(whole.material("a.pem").unwrap().warnings(at(NOW)), []);
    let broken = Issued { chain: format!("{}{}", leaf.chain, other.pem()), key: leaf.key };
    let warnings = broken.material("a.pem").unwrap().warnings(at(NOW));
    assert_eq!(warnings, [Warning::ChainBroken { file: "a.pem".into(), place: 1 }]);
}

#[test]
fn auto_certificates_are_for_the_hosts_and_addresses_given() {
    let addresses: [IpAddr; 2] = ["203.0.113.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let subject = Subject { hosts: &["example.com", "*.Example.com"], addresses: &addresses };
    let issued = super::super::authority::auto(subject, at(NOW)).unwrap();
    let material = issued.material("auto").unwrap();
    let names: Vec<_> = material.names().collect();
    assert_eq!(names, ["example.com", "*.example.com", "203.0.113.1", "2001:db8::1"]);
    assert_eq!(material.warnings(at(NOW)), []);
    assert_eq!(material.not_after(), i64::try_from(NOW + 364 * 86_400).unwrap());
    // Whoever trusts the certificate itself gets through, by name and by address.
    let terminator = terminator_of(vec![material], ClientCheck::None, None);
    let client = Client::new(&issued.chain).build();
    for name in ["example.com", "www.example.com", "203.0.113.1", "2001:db8::1"] {
        let (_, stream) = run(meet(&terminator, &client, name));
        assert!(stream.is_ok(), "{name}: {:?}", stream.err());
    }
}

#[test]
fn auto_certificates_for_nobody_or_for_what_is_no_name_are_refused() {
    let made = |hosts: &[&str]| super::super::authority::auto(Subject { hosts, addresses: &[] }, at(NOW));
    assert!(made(&[]).is_err());
    assert_eq!(
        made(&["bücher.example.com"]).unwrap_err().to_string(),
        "no certificate can be made for `bücher.example.com`"
    );
    assert!(
        super::super::authority::auto(
            Subject { hosts: &["a.example.com"], addresses: &[] },
            at(u64::MAX / 4)
        )
        .is_ok()
    );
}
