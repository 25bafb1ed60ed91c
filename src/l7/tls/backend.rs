//! TLS spoken to backends: their certificates checked, their protocol agreed upon, sessions resumed.
//!
//! The checks are of the settings, not of the session: a [`BackendClient`] resumes its own sessions only, which were opened
//! under the same authorities, name and protocol.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, KeyLog, PeerIncompatible};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::agreed::{Agreed, Alpn};
use super::authorities::Authorities;
use super::failure::library;
use super::{SetupError, one_line, provider};
use crate::l7::spec::UpstreamProtocol;
use crate::l7::words::words;

/// What a client for backends is made of.
#[derive(Debug)]
pub struct BackendSetup<'a> {
    /// Who may sign their certificates.
    pub authorities: Authorities,
    /// The name that is asked for and must be in the certificate; `None` for the backend's address.
    pub name: Option<&'a str>,
    /// What is to be spoken.
    pub protocol: UpstreamProtocol,
    /// Who is told the secrets of each session. `None`, as a rule.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// What time it is.
    pub time: Arc<dyn TimeProvider>,
}

/// Speaks TLS to the backends of a group. A handle, shared by all workers; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct BackendClient {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    alpn: Alpn,
}

/// A stream of bytes above TLS, to a backend.
pub type BackendStream<S> = Box<tokio_rustls::client::TlsStream<S>>;

/// Sessions that are kept to be resumed, by the name that was asked for.
const SESSIONS: usize = 1024;

impl BackendClient {
    /// Makes one.
    ///
    /// # Errors
    /// If the name is none.
    pub fn new(setup: BackendSetup<'_>) -> Result<Self, SetupError> {
        let name = setup.name.map(|name| {
            ServerName::try_from(name.to_owned()).map_err(|_| SetupError::Name { name: name.to_owned() })
        });
        let alpn = match setup.protocol {
            UpstreamProtocol::Http1 => Alpn::Http11,
            UpstreamProtocol::Http2 => Alpn::H2,
        };
        let mut config = ClientConfig::builder_with_details(provider(), setup.time)
            .with_safe_default_protocol_versions()
            .map_err(|why| SetupError::Library(why.to_string()))?
            .with_root_certificates(setup.authorities.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.word().into()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        if let Some(key_log) = setup.key_log {
            config.key_log = key_log;
        }
        Ok(Self { config: Arc::new(config), name: name.transpose()?, alpn })
    }

    /// Does the handshake with a backend, over a connection to it. How long it may take is the caller's to say.
    ///
    /// # Errors
    /// Why there is no agreement.
    pub async fn connect<S>(
        &self,
        stream: S,
        backend: IpAddr,
    ) -> Result<(BackendStream<S>, Agreed), BackendFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.name.clone().unwrap_or_else(|| ServerName::from(backend));
        let sni = match &name {
            ServerName::DnsName(name) => Some(Box::<str>::from(name.as_ref())),
            _ => None,
        };
        let handshake = Box::pin(TlsConnector::from(Arc::clone(&self.config)).connect(name, stream));
        let stream = Box::new(handshake.await.map_err(|error| BackendFailure::from(&error))?);
        let agreed = Agreed::of(stream.get_ref().1, sni.as_deref());
        // HTTP/2 over TLS must be agreed upon (RFC 9113 §3.3). A server that knows no ALPN speaks HTTP/1.1.
        if self.alpn == Alpn::H2 && agreed.alpn != Some(Alpn::H2) {
            return Err(BackendCause::NoSharedProtocol.because("the backend did not agree to `h2` by ALPN"));
        }
        Ok((stream, agreed))
    }
}

/// A handshake with a backend that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}: {detail}")]
pub struct BackendFailure {
    /// The one word for it.
    pub cause: BackendCause,
    /// What exactly was seen, in one line.
    pub detail: Box<str>,
}

words! {
    /// Why a handshake with a backend failed.
    BackendCause {
        /// Its certificate is signed by nobody we were told to trust.
        UnknownIssuer = "unknown_issuer",
        /// Its certificate is for other names.
        WrongName = "wrong_name",
        /// Its certificate is out of its time.
        OutOfTime = "out_of_time",
        /// Its certificate is wrong in another way.
        BadCertificate = "bad_certificate",
        /// It wants a certificate of ours, and we have none.
        WantsCertificate = "wants_certificate",
        /// It does not speak the protocol that it is configured for.
        NoSharedProtocol = "no_shared_protocol",
        /// No version, cipher or the like is shared.
        NothingShared = "nothing_shared",
        /// It sent another alert.
        Alert = "alert",
        /// What it sent is not TLS, or breaks its rules.
        NotTls = "not_tls",
        /// The connection ended in the midst of it.
        Gone = "gone",
        /// We could not, through no fault of the backend's.
        Internal = "internal",
    }
}

impl BackendCause {
    fn because(self, detail: &str) -> BackendFailure {
        BackendFailure { cause: self, detail: one_line(detail) }
    }

    fn of(error: &Error) -> Self {
        use AlertDescription as A;
        use CertificateError as C;
        match error {
            Error::InvalidCertificate(C::UnknownIssuer) => Self::UnknownIssuer,
            Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
                Self::WrongName
            }
            Error::InvalidCertificate(
                C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
            ) => Self::OutOfTime,
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Self::BadCertificate,
            Error::AlertReceived(A::CertificateRequired) => Self::WantsCertificate,
            Error::AlertReceived(A::NoApplicationProtocol) | Error::NoApplicationProtocol => {
                Self::NoSharedProtocol
            }
            Error::AlertReceived(A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity)
            | Error::PeerIncompatible(
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => Self::NothingShared,
            Error::AlertReceived(_) => Self::Alert,
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord
            | Error::PeerIncompatible(_)
            | Error::PeerMisbehaved(_) => Self::NotTls,
            // The rest, and what the library will add.
            _ => Self::Internal,
        }
    }
}

impl From<&io::Error> for BackendFailure {
    fn from(error: &io::Error) -> Self {
        match library(error) {
            Some(error) => BackendCause::of(error).because(&error.to_string()),
            None => BackendCause::Gone.because(&error.to_string()),
        }
    }
}
