//! Certificates of clients: not asked for, optional, required.

use super::*;

const NAME: &str = "a.example.com";

#[test]
fn clients_are_checked_in_three_ways() {
    let (ours, others) = (authority(), stranger());
    let pem = ours.pem();
    let (known, unknown) = (ours.client("someone").unwrap(), others.client("stranger").unwrap());
    let optional = || ClientCheck::Optional(trusted(&ours));
    let required = || ClientCheck::Required(trusted(&ours));
    let missing = Err(Cause::ClientCertificateMissing);
    let refused = Err(Cause::ClientCertificateRefused);
    for (name, check, shows, want) in [
        ("none asked for, none shown", ClientCheck::None, None, Ok(None)),
        ("none asked for, one at hand", ClientCheck::None, Some(&known), Ok(None)),
        ("optional, none shown", optional(), None, Ok(None)),
        ("optional, a known one", optional(), Some(&known), Ok(Some("CN=someone"))),
        ("optional, a stranger's", optional(), Some(&unknown), refused),
        ("required, none shown", required(), None, missing),
        ("required, a known one", required(), Some(&known), Ok(Some("CN=someone"))),
        ("required, a stranger's", required(), Some(&unknown), refused),
    ] {
        for versions in [ONLY_12, ONLY_13] {
            let terminator = terminator(&ours, &[NAME], check.clone());
            let mut client = Client { versions, ..Client::new(&pem) }.config();
            if let Some(issued) = shows {
                // Shown whoever the server says that it trusts: a client of rustls's would keep a stranger's to itself.
                client.client_auth_cert_resolver = always(issued);
            }
            let ended = run(meet(&terminator, &Arc::new(client), NAME)).0;
            let got = ended.map(|secured| secured.agreed.peer).map_err(|refused| refused.failure.cause);
            assert_eq!(got, want.map(|peer| peer.map(Into::into)), "{name}");
        }
    }
}

#[test]
fn a_servers_certificate_is_no_clients() {
    let authority = authority();
    let pem = authority.pem();
    let terminator = terminator(&authority, &[NAME], ClientCheck::Required(trusted(&authority)));
    let server = hosts(&authority, &["b.example.com"]);
    let mut client = Client::new(&pem).config();
    client.client_auth_cert_resolver = always(&server);
    let failure = run(fail(&terminator, &Arc::new(client), NAME));
    assert_eq!(failure.cause, Cause::ClientCertificateRefused);
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    let read = |text: &str| {
        Authorities::from_pem(Pem { name: "ca.pem", bytes: text.as_bytes() }).unwrap_err().to_string()
    };
    assert_eq!(read(""), "ca.pem: the file is empty");
    assert_eq!(
        read(&authority().client("x").unwrap().key),
        "ca.pem: no certificate in it, but a private key"
    );
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(
        read(damaged).starts_with("ca.pem: certificate 1 of the file cannot be read"),
        "{}",
        read(damaged)
    );
}

fn always(issued: &Issued) -> Arc<dyn rustls::client::ResolvesClientCert> {
    let certified = issued.material("client").unwrap().certified().clone();
    Arc::new(rustls::sign::SingleCertAndKey::from(certified))
}
