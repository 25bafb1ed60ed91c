//! A connection to the target, with TLS where it speaks that.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::PATIENCE;
use super::job::Job;

/// Pieces that are read of what a server says to the end.
const MOST_LAST_WORDS: usize = 64;

/// Whose certificates are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Anybody's. That the server has the key to the one that it shows is checked all the same.
    #[default]
    Anybody,
    /// Those that are signed by one in this PEM file.
    Ca(PathBuf),
}

/// How sessions are taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sessions {
    Full,
    Resumed,
}

/// How TLS is spoken.
pub(super) fn client_config(
    trust: &Trust,
    sessions: Sessions,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[u8],
) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anybody => Arc::new(AnyCertificate(Arc::clone(&provider))),
        Trust::Ca(path) => {
            let because =
                |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| because(&error))? {
                let certificate = certificate.map_err(|error| because(&error))?;
                roots.add(certificate).map_err(|error| because(&error))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| because(&error))?
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = match sessions {
        Sessions::Full => Resumption::disabled(),
        Sessions::Resumed => Resumption::in_memory_sessions(8),
    };
    Ok(config)
}

/// Takes any certificate, and checks that the server has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

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
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects, and shakes hands where the target speaks TLS; waits as long as anything may take.
    pub(super) async fn open(job: &Job) -> io::Result<Self> {
        let open = async {
            let stream = TcpStream::connect(job.address).await?;
            stream.set_nodelay(true)?;
            Ok(match &job.tls {
                None => Self::Plain(stream),
                Some(tls) => {
                    let connector = TlsConnector::from(Arc::clone(&tls.config));
                    Self::Tls(Box::new(connector.connect(tls.name.clone(), stream).await?))
                }
            })
        };
        timeout(PATIENCE, open).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits for the server's end of the connection, so that TIME-WAIT is on its side: ours would run out of ports
    /// at some ten thousand connections a minute. With TLS it is asked to end; without, it has been.
    pub(super) async fn closed(self, last_words: LastWords) -> io::Result<()> {
        // Some end TCP without ending TLS first; here nothing can have been cut off by that.
        match self.end(last_words).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            end => end,
        }
    }

    async fn end(mut self, last_words: LastWords) -> io::Result<()> {
        if let Self::Tls(stream) = &mut self {
            stream.get_mut().1.send_close_notify();
            stream.flush().await?;
        }
        let mut buffer = [0; 1024];
        for _ in 0..MOST_LAST_WORDS {
            match (self.read(&mut buffer).await?, last_words) {
                (0, _) => return Ok(()),
                (_, LastWords::Any) => {}
                (_, LastWords::None) => break,
            }
        }
        Err(io::Error::other("the server sent more than its answer"))
    }
}

/// What a server may still say when a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWords {
    /// Nothing: it has said all.
    None,
    /// Anything: it has been asked nothing, and some say that this was no request.
    Any,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
