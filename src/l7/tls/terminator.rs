//! TLS ended for clients: the handshake, bounded in time, and what came of it.
//!
//! **Resumption** is by tickets alone: sealed sessions that the client keeps, so that workers share nothing but the keys,
//! which rotate every six hours and are good for twice that. The keys are a terminator's own: no ticket of one site opens
//! another, and none outlives the settings it was given under. A swap of certificates leaves them alone.
//! Where clients are asked for certificates, **nothing is resumed**: a ticket would carry the answer of an earlier check
//! past the check, while a certificate runs out, is revoked, or its authority is taken away. Each such handshake is full.
//!
//! **Memory.** An idle connection holds its two keys and a read buffer of 4 KB, which the library keeps while it waits;
//! write buffers are freed as they drain, and hold at most 64 KB. The stream is boxed, so that a task that waits on
//! it is not as large as all that it went through.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{KeyLog, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;

use super::agreed::{Agreed, Alpn};
use super::authorities::Authorities;
use super::certificates::Certificates;
use super::counters::{HandshakeCounters, HandshakeCounts};
use super::failure::{Cause, HandshakeFailure};
use super::hello::{self, First};
use super::{SetupError, provider};

/// What a terminator is made of.
#[derive(Debug)]
pub struct Setup {
    /// What it shows.
    pub certificates: Arc<Certificates>,
    /// What it asks for.
    pub client: ClientCheck,
    /// Who is told the secrets of each session, for a capture to be read by. `None`, as a rule.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// What time it is, for certificates and tickets.
    pub time: Arc<dyn TimeProvider>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Debug, Default)]
pub enum ClientCheck {
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked; one that is shown must be signed by these.
    Optional(Authorities),
    /// They must show one that is signed by these.
    Required(Authorities),
}

/// A stream of bytes above TLS, to a client.
pub type ServerStream<S> = Box<tokio_rustls::server::TlsStream<S>>;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Secured<S> {
    /// Its bytes.
    pub stream: ServerStream<S>,
    /// What was agreed upon.
    pub agreed: Agreed,
}

/// A connection whose handshake failed.
#[derive(Debug)]
pub struct Refused<S> {
    /// How.
    pub failure: HandshakeFailure,
    /// The connection, where the cause is [`Cause::CleartextHttp`]: the client can be told
    /// ([`CLEARTEXT_ANSWER`](super::CLEARTEXT_ANSWER)). The beginning of its request is gone.
    pub cleartext: Option<S>,
}

/// Ends TLS for one site. A handle, shared by all workers; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Terminator {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    counters: Arc<HandshakeCounters>,
}

/// Tickets of TLS 1.3 are used once. Two are enough for a client that opens connections one by one and sometimes two.
const TICKETS: usize = 2;

/// What a client that asks for more (RFC 9149) gets at most.
const TICKETS_AT_MOST: usize = 6;

impl Terminator {
    /// Makes one.
    ///
    /// # Errors
    /// If rustls refuses the settings, as it does without any authority where clients are checked.
    pub fn new(setup: Setup) -> Result<Self, SetupError> {
        let library = |why: &dyn std::fmt::Display| SetupError::Library(why.to_string());
        let builder = ServerConfig::builder_with_details(provider(), setup.time)
            .with_safe_default_protocol_versions()
            .map_err(|why| library(&why))?;
        let verifier = |authorities: &Authorities| {
            WebPkiClientVerifier::builder_with_provider(authorities.roots(), provider())
        };
        let builder = match &setup.client {
            ClientCheck::None => builder.with_no_client_auth(),
            ClientCheck::Optional(authorities) => {
                let verifier =
                    verifier(authorities).allow_unauthenticated().build().map_err(|why| library(&why))?;
                builder.with_client_cert_verifier(verifier)
            }
            ClientCheck::Required(authorities) => {
                builder.with_client_cert_verifier(verifier(authorities).build().map_err(|why| library(&why))?)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::<Certificates>::clone(&setup.certificates));
        config.alpn_protocols = [Alpn::H2, Alpn::Http11].map(|alpn| alpn.word().into()).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match setup.client {
            ClientCheck::None => {
                config.ticketer = Ticketer::new().map_err(|why| library(&why))?;
                config.send_tls13_tickets = TICKETS;
                config.max_tls13_tickets = TICKETS_AT_MOST;
            }
            ClientCheck::Optional(_) | ClientCheck::Required(_) => config.send_tls13_tickets = 0,
        }
        if let Some(key_log) = setup.key_log {
            config.key_log = key_log;
        }
        Ok(Self { config: Arc::new(config), certificates: setup.certificates, counters: Arc::default() })
    }

    /// Does the handshake of a connection that was just opened, within `limit`.
    ///
    /// Where it fails, the client has been told by an alert, as far as it takes one.
    ///
    /// # Errors
    /// How it failed, and whose doing it was.
    pub async fn accept<S>(&self, stream: S, limit: Duration) -> Result<Secured<S>, Refused<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut sni = None;
        // In a box of its own, which goes when the handshake is done.
        let handshake = Box::pin(self.handshake(stream, &mut sni));
        let result = tokio::time::timeout(limit, handshake).await.unwrap_or_else(|_| {
            let failure = Cause::Timeout.because(&format!("not done after {limit:?}"));
            Err(Refused { failure, cleartext: None })
        });
        match result {
            Ok(stream) => {
                let agreed = Agreed::of(stream.get_ref().1, sni.as_deref());
                self.counters.done(agreed.handshake);
                Ok(Secured { stream, agreed })
            }
            Err(mut refused) => {
                self.counters.failed(refused.failure.cause);
                refused.failure.sni = sni;
                Err(refused)
            }
        }
    }

    /// The certificates that it shows.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// How handshakes went so far, over all handles.
    pub fn counts(&self) -> HandshakeCounts {
        self.counters.counts()
    }

    async fn handshake<S>(
        &self,
        mut stream: S,
        sni: &mut Option<Box<str>>,
    ) -> Result<ServerStream<S>, Refused<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = match hello::read(&mut stream).await {
            Ok(First::Hello(accepted)) => accepted,
            Ok(First::Refused(error, mut alert)) => {
                let mut bytes = Vec::new();
                // Into memory: it cannot fail.
                let _ = alert.write_all(&mut bytes);
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return Err(HandshakeFailure::from(&error).into());
            }
            Ok(First::Alert(alert)) => {
                return Err(HandshakeFailure::from(&rustls::Error::AlertReceived(alert)).into());
            }
            Ok(First::CleartextHttp) => {
                let failure = Cause::CleartextHttp.because("a request in the clear came to a TLS port");
                return Err(Refused { failure, cleartext: Some(stream) });
            }
            Ok(First::NotTls(bytes)) => {
                let detail = format!("it began with {}", bytes.escape_ascii());
                return Err(Cause::NotTls.because(&detail).into());
            }
            Ok(First::Nothing) => {
                return Err(Cause::ClosedUnused.because("closed before a byte was sent").into());
            }
            Err(error) => return Err(HandshakeFailure::from(&error).into()),
        };
        *sni = accepted.client_hello().server_name().map(Into::into);
        let handshake = StartHandshake::from_parts(*accepted, stream).into_stream(Arc::clone(&self.config));
        match handshake.into_fallible().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err((error, stream)) => Err(farewell(error, stream).await.into()),
        }
    }
}

/// Closes behind the alert, so that it is not lost in a reset.
async fn farewell<S: AsyncWrite + Unpin>(error: io::Error, mut stream: S) -> HandshakeFailure {
    let _ = stream.flush().await;
    let _ = stream.shutdown().await;
    HandshakeFailure::from(&error)
}

impl<S> From<HandshakeFailure> for Refused<S> {
    fn from(failure: HandshakeFailure) -> Self {
        Self { failure, cleartext: None }
    }
}
