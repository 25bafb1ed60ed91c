//! Why a handshake with a client failed: whose doing it was, and the one word for it.

use std::fmt;
use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::one_line;

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

/// Why a handshake with a client failed. Each is a counter of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No version of TLS is spoken by both.
    NoSharedVersion,
    /// No cipher suite is.
    NoSharedCipher,
    /// No group for the key exchange is.
    NoSharedGroup,
    /// The client can verify no signature that our keys can make.
    NoSharedSignature,
    /// The client's ALPN names neither `h2` nor `http/1.1`.
    NoSharedProtocol,
    /// The client must show a certificate, and showed none.
    ClientCertificateMissing,
    /// The client's certificate was signed by nobody we know, is out of its time, or otherwise wrong.
    ClientCertificateRefused,
    /// What came is not TLS.
    NotTls,
    /// What came is HTTP without TLS.
    CleartextHttp,
    /// What came is TLS, and breaks its rules.
    BadMessage,
    /// The client does not know who signed our certificate: `unknown_ca`.
    UnknownCaAlert,
    /// The client refuses our certificate for another reason: `bad_certificate`, `certificate_unknown`, and the like.
    BadCertificateAlert,
    /// The client finds that our certificate is out of its time: `certificate_expired`.
    CertificateExpiredAlert,
    /// The client found no version, cipher or the like to share: `protocol_version`, `handshake_failure`.
    NegotiationAlert,
    /// The client does not want to go on: `close_notify`, `user_canceled`.
    CancelledAlert,
    /// Any other alert.
    OtherAlert,
    /// The connection was opened and closed without a byte, as probes do.
    ClosedUnused,
    /// The connection ended in the midst of it.
    ClientGone,
    /// It took too long.
    Timeout,
    /// We could not, through no fault of the client's.
    Internal,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::NoSharedVersion,
        Self::NoSharedCipher,
        Self::NoSharedGroup,
        Self::NoSharedSignature,
        Self::NoSharedProtocol,
        Self::ClientCertificateMissing,
        Self::ClientCertificateRefused,
        Self::NotTls,
        Self::CleartextHttp,
        Self::BadMessage,
        Self::UnknownCaAlert,
        Self::BadCertificateAlert,
        Self::CertificateExpiredAlert,
        Self::NegotiationAlert,
        Self::CancelledAlert,
        Self::OtherAlert,
        Self::ClosedUnused,
        Self::ClientGone,
        Self::Timeout,
        Self::Internal,
    ];

    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoSharedVersion => "no_shared_version",
            Self::NoSharedCipher => "no_shared_cipher",
            Self::NoSharedGroup => "no_shared_group",
            Self::NoSharedSignature => "no_shared_signature",
            Self::NoSharedProtocol => "no_shared_protocol",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateRefused => "client_certificate_refused",
            Self::NotTls => "not_tls",
            Self::CleartextHttp => "cleartext_http",
            Self::BadMessage => "bad_message",
            Self::UnknownCaAlert => "unknown_ca_alert",
            Self::BadCertificateAlert => "bad_certificate_alert",
            Self::CertificateExpiredAlert => "certificate_expired_alert",
            Self::NegotiationAlert => "negotiation_alert",
            Self::CancelledAlert => "cancelled_alert",
            Self::OtherAlert => "other_alert",
            Self::ClosedUnused => "closed_unused",
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
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
