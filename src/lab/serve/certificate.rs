//! The backend's own certificate: from files, from a text, or made at the start.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// Where a certificate is from: the chain, the leaf first, and its key, each in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Certificate {
    /// Files.
    Files {
        /// The chain.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// These texts.
    Text {
        /// The chain.
        chain: String,
        /// Its key.
        key: String,
    },
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How TLS is spoken at these addresses, with HTTP/2 and HTTP/1.1 by ALPN. Without files the certificate is
/// made for them, signed by nobody, for ECDSA on P-256.
pub(super) fn acceptor(
    given: Option<&Certificate>,
    name: &str,
    at: &[SocketAddr],
) -> io::Result<ServerConfig> {
    let (chain, key) = match given {
        Some(Certificate::Files { chain, key }) => read(chain, key)?,
        Some(Certificate::Text { chain, key }) => parse(chain, key).map_err(io::Error::other)?,
        None => make(name, at)?,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    Ok(config)
}

fn read(chain: &Path, key: &Path) -> io::Result<Pair> {
    let because = |path: &Path, error| io::Error::other(format!("{}: {error}", path.display()));
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| because(chain, error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| because(key, error))?;
    Ok((certificates, key))
}

fn parse(chain: &str, key: &str) -> Result<Pair, pem::Error> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?))
}

fn make(name: &str, at: &[SocketAddr]) -> io::Result<Pair> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.') {
        names.push(name.to_owned());
    }
    names.extend(at.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(io::Error::other)?;
    Ok((vec![made.cert.der().clone()], key))
}
