//! TLS in the room: rustls clients over pipes of memory, on a paused clock, at a time that is an argument.

mod backends;
mod certificates;
mod clients;
mod failures;
mod handshakes;
mod material;
mod resumption;
mod writes;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, DigitallySignedStruct, KeyLog, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Issued, Subject};
use super::*;

/// January 2027.
const NOW: u64 = 1_800_000_000;
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct At(u64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(self.0))
    }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Runs a test on one thread, on a clock that goes on when all wait for it.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

fn authority() -> Authority {
    Authority::new("test authority", at(NOW)).unwrap()
}

/// Another one, whom nobody knows.
fn stranger() -> Authority {
    Authority::new("stranger", at(NOW)).unwrap()
}

fn hosts(authority: &Authority, hosts: &[&str]) -> Issued {
    authority.server(Subject { hosts, addresses: &[] }).unwrap()
}

fn trusted(authority: &Authority) -> Authorities {
    Authorities::from_pem(Pem { name: "ca.pem", bytes: authority.pem().as_bytes() }).unwrap()
}

/// A terminator that shows a certificate for each of these, in their order.
fn terminator(authority: &Authority, names: &[&str], client: ClientCheck) -> Terminator {
    let materials = names.iter().map(|name| hosts(authority, &[name]).material(name).unwrap()).collect();
    terminator_of(materials, client, None)
}

fn terminator_of(
    materials: Vec<Material>,
    client: ClientCheck,
    key_log: Option<Arc<dyn KeyLog>>,
) -> Terminator {
    let certificates = Arc::new(Certificates::new(materials).unwrap());
    Terminator::new(Setup { certificates, client, key_log, time: Arc::new(At(NOW)) }).unwrap()
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const ONLY_12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What a test's client is made of.
struct Client<'a> {
    trusts: &'a str,
    versions: &'a [&'static SupportedProtocolVersion],
    alpn: &'a [&'a str],
    shows: Option<&'a Issued>,
}

impl<'a> Client<'a> {
    fn new(trusts: &'a str) -> Self {
        Self { trusts, versions: BOTH, alpn: &["h2", "http/1.1"], shows: None }
    }

    fn config(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.trusts.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(At(NOW)))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            Some(issued) => {
                let chain =
                    CertificateDer::pem_slice_iter(issued.chain.as_bytes()).map(Result::unwrap).collect();
                let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
        config
    }

    fn build(&self) -> Arc<ClientConfig> {
        Arc::new(self.config())
    }
}

type Ended = Result<Secured<DuplexStream>, Refused<DuplexStream>>;

/// The first bytes of such a client.
fn hello_of(client: Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(client, name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// One handshake, and where it succeeds a byte each way, so that the client has its tickets.
async fn meet(
    terminator: &Terminator,
    client: &Arc<ClientConfig>,
    name: &str,
) -> (Ended, io::Result<TlsStream<DuplexStream>>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, far).await?;
        stream.write_all(b"?").await?;
        stream.flush().await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok(stream)
    };
    let accepting = async {
        let mut secured = terminator.accept(near, LIMIT).await?;
        let mut byte = [0];
        let _ = secured.stream.read_exact(&mut byte).await;
        let _ = secured.stream.write_all(b"!").await;
        let _ = secured.stream.flush().await;
        Ok(secured)
    };
    join(accepting, connecting).await
}

/// One handshake that must succeed.
async fn agree(
    terminator: &Terminator,
    client: &Arc<ClientConfig>,
    name: &str,
) -> (Agreed, TlsStream<DuplexStream>) {
    let (ended, stream) = meet(terminator, client, name).await;
    (ended.expect("the handshake is done").agreed, stream.expect("the client agrees"))
}

/// One handshake that must fail.
async fn fail(terminator: &Terminator, client: &Arc<ClientConfig>, name: &str) -> HandshakeFailure {
    meet(terminator, client, name).await.0.expect_err("the handshake fails").failure
}

/// The names of the certificate that a client was shown.
fn shown(stream: &TlsStream<DuplexStream>) -> Vec<String> {
    let leaf =
        stream.get_ref().1.peer_certificates().and_then(<[_]>::first).expect("a certificate was shown");
    certificate::Facts::read(leaf).unwrap().names.iter().map(ToString::to_string).collect()
}

/// A key log that keeps what it is told.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<String>>);

impl KeyLog for Kept {
    fn log(&self, label: &str, _: &[u8], _: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(label.to_owned());
    }
}

/// Takes any certificate, admits to these kinds of signatures, and looks at the signatures of the handshake only.
#[derive(Debug)]
struct AnyCertificate(Vec<SignatureScheme>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

fn every_scheme() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}
