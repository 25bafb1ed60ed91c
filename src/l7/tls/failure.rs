//! Why a handshake with a client failed: whose doing it was, and the one word for it.

use std::fmt;
use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::one_line;
use crate::l7::words::words;

/// A handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// Whose doing it was.
    pub side: Side,
    /// The one word for it.
    pub cause: Cause,
    /// The name that the client asked for, where its hello came that far.
    pub sni: Option<Box<str>>,
    /// What exactly was seen, in one line.
    pub detail: Box<str>,
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sni = self.sni.as_deref().unwrap_or("-");
        write!(f, "side={} cause={} sni={sni}: {}", self.side.word(), self.cause.word(), self.detail)
    }
}

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The other end sent an alert.
    Theirs,
    /// We refused.
    Ours,
    /// Bytes stopped coming.
    Transport,
}

impl Side {
    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Theirs => "theirs",
            Self::Ours => "ours",
            Self::Transport => "transport",
        }
    }
}

words! {
    /// Why a handshake with a client failed. Each is a counter of the same name.
    Cause {
        /// No version of TLS is spoken by both.
        NoSharedVersion = "no_shared_version",
        /// No cipher suite is.
        NoSharedCipher = "no_shared_cipher",
        /// No group for the key exchange is.
        NoSharedGroup = "no_shared_group",
        /// The client can verify no signature that our keys can make.
        NoSharedSignature = "no_shared_signature",
        /// The client's ALPN names neither `h2` nor `http/1.1`.
        NoSharedProtocol = "no_shared_protocol",
        /// The client must show a certificate, and showed none.
        ClientCertificateMissing = "client_certificate_missing",
        /// The client's certificate was signed by nobody we know, is out of its time, or otherwise wrong.
        ClientCertificateRefused = "client_certificate_refused",
        /// What came is not TLS.
        NotTls = "not_tls",
        /// What came is HTTP without TLS.
        CleartextHttp = "cleartext_http",
        /// What came is TLS, and breaks its rules.
        BadMessage = "bad_message",
        /// The client does not know who signed our certificate: `unknown_ca`.
        UnknownCaAlert = "unknown_ca_alert",
        /// The client refuses our certificate for another reason: `bad_certificate`, `certificate_unknown`, and the like.
        BadCertificateAlert = "bad_certificate_alert",
        /// The client finds that our certificate is out of its time: `certificate_expired`.
        CertificateExpiredAlert = "certificate_expired_alert",
        /// The client found no version, cipher or the like to share: `protocol_version`, `handshake_failure`.
        NegotiationAlert = "negotiation_alert",
        /// The client does not want to go on: `close_notify`, `user_canceled`.
        CancelledAlert = "cancelled_alert",
        /// Any other alert.
        OtherAlert = "other_alert",
        /// The connection was opened and closed without a byte, as probes do.
        ClosedUnused = "closed_unused",
        /// The connection ended in the midst of it.
        ClientGone = "client_gone",
        /// It took too long.
        Timeout = "timeout",
        /// We could not, through no fault of the client's.
        Internal = "internal",
    }
}

impl Cause {
    /// Whose doing it was.
    pub const fn side(self) -> Side {
        match self {
            Self::UnknownCaAlert
            | Self::BadCertificateAlert
            | Self::CertificateExpiredAlert
            | Self::NegotiationAlert
            | Self::CancelledAlert
            | Self::OtherAlert => Side::Theirs,
            Self::ClosedUnused | Self::ClientGone | Self::Timeout => Side::Transport,
            Self::NoSharedVersion
            | Self::NoSharedCipher
            | Self::NoSharedGroup
            | Self::NoSharedSignature
            | Self::NoSharedProtocol
            | Self::ClientCertificateMissing
            | Self::ClientCertificateRefused
            | Self::NotTls
            | Self::CleartextHttp
            | Self::BadMessage
            | Self::Internal => Side::Ours,
        }
    }

    /// This, as a failure.
    pub(super) fn because(self, detail: &str) -> HandshakeFailure {
        HandshakeFailure { side: self.side(), cause: self, sni: None, detail: one_line(detail) }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::PeerIncompatible(why) => Self::of_incompatible(why),
            Error::NoApplicationProtocol => Self::NoSharedProtocol,
            Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
                Self::ClientCertificateRefused
            }
            Error::InvalidMessage(_)
            | Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::DecryptError
            | Error::PeerSentOversizedRecord
            | Error::PeerMisbehaved(_) => Self::BadMessage,
            // The rest, and what the library will add.
            _ => Self::Internal,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::UnknownCA => Self::UnknownCaAlert,
            A::CertificateExpired => Self::CertificateExpiredAlert,
            A::BadCertificate | A::UnsupportedCertificate | A::CertificateRevoked | A::CertificateUnknown => {
                Self::BadCertificateAlert
            }
            A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity | A::NoApplicationProtocol => {
                Self::NegotiationAlert
            }
            A::CloseNotify | A::UserCanceled => Self::CancelledAlert,
            _ => Self::OtherAlert,
        }
    }

    fn of_incompatible(why: &PeerIncompatible) -> Self {
        use PeerIncompatible as P;
        match why {
            P::NoCipherSuitesInCommon => Self::NoSharedCipher,
            P::NoKxGroupsInCommon
            | P::KeyShareExtensionRequired
            | P::NamedGroupsExtensionRequired
            | P::NoEcPointFormatsInCommon
            | P::UncompressedEcPointsRequired => Self::NoSharedGroup,
            P::NoSignatureSchemesInCommon | P::NoCertificateRequestSignatureSchemesInCommon => {
                Self::NoSharedSignature
            }
            // The extension came with TLS 1.2 (RFC 5246 §7.4.1.4.1): who sends none is older, and rustls looks for it
            // before it looks at the version.
            P::SignatureAlgorithmsExtensionRequired
            | P::ServerDoesNotSupportTls12Or13
            | P::ServerTlsVersionIsDisabledByOurConfig
            | P::SupportedVersionsExtensionRequired
            | P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled => Self::NoSharedVersion,
            _ => Self::BadMessage,
        }
    }
}

impl From<&Error> for HandshakeFailure {
    fn from(error: &Error) -> Self {
        Cause::of(error).because(&error.to_string())
    }
}

impl From<&io::Error> for HandshakeFailure {
    fn from(error: &io::Error) -> Self {
        match library(error) {
            Some(error) => Self::from(error),
            None if error.kind() == io::ErrorKind::InvalidData => {
                Cause::BadMessage.because(&error.to_string())
            }
            None => Cause::ClientGone.because(&error.to_string()),
        }
    }
}

/// What rustls said, where it is rustls that speaks.
pub(super) fn library(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
