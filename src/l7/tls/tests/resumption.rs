//! Sessions that go on: over handles, over swaps, and never past a check of clients.

use super::*;

const NAME: &str = "a.example.com";

#[test]
fn sessions_are_resumed_over_handles_in_both_versions() {
    let authority = authority();
    let pem = authority.pem();
    for versions in [ONLY_12, ONLY_13] {
        let one = terminator(&authority, &[NAME], ClientCheck::None);
        let other = one.clone();
        let client = Client { versions, ..Client::new(&pem) }.build();
        run(async {
            assert_eq!(agree(&one, &client, NAME).await.0.handshake, Handshake::Full);
            for _ in 0..3 {
                assert_eq!(agree(&other, &client, NAME).await.0.handshake, Handshake::Resumed);
                assert_eq!(agree(&one, &client, NAME).await.0.handshake, Handshake::Resumed);
            }
        });
        let counts = one.counts();
        assert_eq!((counts.full, counts.resumed), (1, 6));
    }
}

#[test]
fn sessions_are_resumed_over_a_swap_of_certificates() {
    let (old, new) = (authority(), authority());
    let pem = old.pem();
    for versions in [ONLY_12, ONLY_13] {
        let terminator = terminator(&old, &[NAME], ClientCheck::None);
        let client = Client { versions, ..Client::new(&pem) }.build();
        run(async {
            agree(&terminator, &client, NAME).await;
            let material = hosts(&new, &[NAME]).material("new").unwrap();
            terminator.certificates().swap([Ok::<_, SetupError>(material)]).unwrap();
            // A full handshake would fail: the client does not know who signed the new one.
            assert_eq!(agree(&terminator, &client, NAME).await.0.handshake, Handshake::Resumed);
        });
    }
}

#[test]
fn a_ticket_of_one_site_is_nothing_to_another() {
    let authority = authority();
    let pem = authority.pem();
    for versions in [ONLY_12, ONLY_13] {
        let [one, other] = [(); 2].map(|()| terminator(&authority, &[NAME], ClientCheck::None));
        let client = Client { versions, ..Client::new(&pem) }.build();
        run(async {
            agree(&one, &client, NAME).await;
            assert_eq!(agree(&other, &client, NAME).await.0.handshake, Handshake::Full);
        });
    }
}

#[test]
fn a_session_is_not_resumed_under_another_name() {
    let authority = authority();
    let terminator = terminator(&authority, &["*.example.com"], ClientCheck::None);
    let pem = authority.pem();
    let client = Client::new(&pem).build();
    run(async {
        agree(&terminator, &client, "a.example.com").await;
        assert_eq!(agree(&terminator, &client, "b.example.com").await.0.handshake, Handshake::Full);
    });
}

#[test]
fn nothing_is_resumed_past_a_check_of_clients() {
    let authority = authority();
    let pem = authority.pem();
    let card = authority.client("someone").unwrap();
    for versions in [ONLY_12, ONLY_13] {
        for check in [ClientCheck::Optional, ClientCheck::Required] {
            let terminator = terminator(&authority, &[NAME], check(trusted(&authority)));
            let client = Client { versions, shows: Some(&card), ..Client::new(&pem) }.build();
            run(async {
                for _ in 0..3 {
                    let (agreed, _) = agree(&terminator, &client, NAME).await;
                    assert_eq!(agreed.handshake, Handshake::Full);
                    assert_eq!(agreed.peer.as_deref(), Some("CN=someone"));
                }
            });
        }
    }
}

#[test]
fn a_ticket_from_before_clients_were_checked_opens_nothing() {
    let authority = authority();
    let pem = authority.pem();
    for versions in [ONLY_12, ONLY_13] {
        let before = terminator(&authority, &[NAME], ClientCheck::None);
        let after = terminator(&authority, &[NAME], ClientCheck::Required(trusted(&authority)));
        let client = Client { versions, ..Client::new(&pem) }.build();
        run(async {
            agree(&before, &client, NAME).await;
            assert_eq!(fail(&after, &client, NAME).await.cause, Cause::ClientCertificateMissing);
        });
    }
}
