//! The lab's client over HTTPS: it checks certificates, asks over one connection, and keeps that for the next visit.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::client::PATIENCE;
use super::clock;
use super::visit::{Ask, Connection, Over, Said, Visit, Visited};

/// More than any answer of a built-in backend.
const MAX_BODY: usize = 1 << 20;
/// The port that a host is not written with.
const HTTPS: u16 = 443;

/// A client that trusts some authorities.
#[derive(Debug)]
pub struct Browser {
    runtime: Runtime,
    tls: Arc<ClientConfig>,
    kept: Option<Kept>,
}

/// A connection that is open. Between two visits nobody drives it.
#[derive(Debug)]
struct Kept {
    connection: Connection,
    sender: SendRequest<Empty<Bytes>>,
}

impl Browser {
    /// A client that trusts those whose certificates are in this PEM text, and nobody else.
    ///
    /// # Errors
    ///
    /// There is something else in it, or there is no runtime.
    pub fn trusting(authorities: &str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, tls: Arc::new(tls), kept: None })
    }

    /// Makes a visit. What the network does is in what comes of it.
    pub fn visit(&mut self, visit: &Visit) -> Visited {
        let kept = self.kept.take().filter(|_| visit.over == Over::Kept);
        let tls = Arc::clone(&self.tls);
        let (visited, kept) = self.runtime.block_on(async {
            let kept = match (kept, visit.over) {
                (Some(kept), _) => Ok(kept),
                (None, Over::New) => within(open(visit, tls)).await,
                (None, Over::Kept) => Err(io::Error::other("no connection was kept")),
            };
            match kept {
                Ok(kept) => ask_all(visit, kept).await,
                Err(error) => (Visited { failed: Some(error.to_string()), ..Visited::default() }, None),
            }
        });
        self.kept = kept;
        visited
    }
}

async fn ask_all(visit: &Visit, mut kept: Kept) -> (Visited, Option<Kept>) {
    let mut visited = Visited { connection: Some(kept.connection.clone()), ..Visited::default() };
    for one in &visit.asks {
        match within(ask(&mut kept.sender, one, visit.at.port())).await {
            Ok(said) => visited.answers.push(said),
            Err(error) => {
                visited.failed = Some(error.to_string());
                return (visited, None);
            }
        }
    }
    (visited, Some(kept))
}

async fn within<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn open(visit: &Visit, tls: Arc<ClientConfig>) -> io::Result<Kept> {
    let stream = TcpStream::connect(visit.at).await?;
    stream.set_nodelay(true)?;
    let client = stream.local_addr()?;
    let name = ServerName::try_from(visit.name.clone()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = shown.ok_or_else(|| io::Error::other("the server showed no certificate"))?;
    let (_, shown) = X509Certificate::from_der(shown).map_err(io::Error::other)?;
    let (subject, issuer) = (common_name(shown.subject()), common_name(shown.issuer()));
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(Kept { connection: Connection { client, subject, issuer }, sender })
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, ask: &Ask, port: u16) -> io::Result<Said> {
    let started = clock::now();
    let host = if port == HTTPS { ask.host.clone() } else { format!("{}:{port}", ask.host) };
    let request = Request::get(&ask.path).header("host", host).body(Empty::<Bytes>::new());
    sender.ready().await.map_err(io::Error::other)?;
    let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(io::Error::other)?;
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Said::read(ask, micros, status, &body.to_bytes()))
}

/// What people call whom a name is of.
fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().find_map(|part| part.as_str().ok()).unwrap_or("nobody").to_owned()
}
