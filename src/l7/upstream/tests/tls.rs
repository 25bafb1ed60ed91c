//! TLS to backends, in memory.

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::world::{World, echo, group, settle, story};
use crate::balance::PassiveHealth;
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, Plan, UpstreamProtocol};
use crate::l7::tls::{Authorities, BackendCause, BackendClient, BackendSetup, Pem};
use crate::l7::upstream::{DropReason, Shared};

/// A backend's certificate for this name, and who trusts it.
fn certificate(name: &str) -> (Arc<ServerConfig>, Authorities) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let chain = vec![made.cert.der().clone()];
    let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.clone(), key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let pem = made.cert.pem();
    let authorities = Authorities::from_pem(Pem { name: "ca.pem", bytes: pem.as_bytes() }).unwrap();
    (Arc::new(server), authorities)
}

/// A world whose backend has a certificate for `backend.example.com` and is asked for `name`.
fn sealed(protocol: UpstreamProtocol, name: &'static str) -> World {
    let (server, authorities) = certificate("backend.example.com");
    let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
    let setup = BackendSetup { authorities, name: Some(name), protocol, key_log: None, time };
    let client = BackendClient::new(setup).unwrap();
    let plan = Plan { groups: vec![GroupSpec { protocol, ..group(1) }], ..Plan::default() };
    let shared = Shared::new(&plan, vec![Some(client)], PassiveHealth::default(), 1).unwrap();
    let world = World::on(shared, 0);
    world.wires.script(0, move |_, end| {
        let acceptor = TlsAcceptor::from(Arc::clone(&server));
        async move {
            let Ok(tls) = acceptor.accept(end).await else { return };
            let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = hyper::service::service_fn(|request| echo(0, request));
            if h2 {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(tls), service).await;
            } else {
                let builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.serve_connection(TokioIo::new(tls), service).await;
            }
        }
    });
    world
}

#[test]
fn both_versions_go_over_tls_and_are_reused() {
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        story(async move {
            let world = sealed(protocol, "backend.example.com");
            let mut client = world.client(0);
            for _ in 0..5 {
                let told = client.post("secret").await;
                assert_eq!((told.assert_ok().text(), told.tries), ("secret", 1), "{protocol:?}");
                settle().await;
            }
            assert_eq!((world.counts(0).opened(), world.counts(0).reused), (1, 4), "{protocol:?}");
            assert!(world.wires.peers.borrow().iter().all(|peer| peer.times_sent("secret") == 0));
            world.assert_at_rest();
        });
    }
}

#[test]
fn a_certificate_for_somebody_else_is_not_taken() {
    story(async {
        let world = sealed(UpstreamProtocol::Http1, "other.example.com");
        world.client(0).get("/").await.assert_failed(Failure::TlsFailed);
        settle().await;
        let wrong = BackendCause::ALL.iter().position(|cause| *cause == BackendCause::WrongName).unwrap();
        assert_eq!(world.shared.report()[0].tls_failures[wrong], 1);
        let counts = world.counts(0);
        assert_eq!((counts.unopened, counts.opened(), counts.live), (1, 0, 0));
        assert_eq!(DropReason::ALL.iter().map(|reason| world.dropped(*reason)).sum::<u64>(), 0);
        world.assert_at_rest();
    });
}
