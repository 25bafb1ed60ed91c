//! What every thread of a load has to know, worked out once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::Uri;
use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::ServerName;

use super::check::Expect;
use super::stream::{Sessions, client_config};
use super::{Kind, Load, Scheme, Version};

/// What is asked, of whom, and what a right answer is.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub address: SocketAddr,
    pub tls: Option<Tls>,
    pub expect: Expect,
    /// The request over HTTP/1.1, with the connection kept.
    pub kept: Arc<[u8]>,
    /// The same, with the connection closed behind it.
    pub last: Arc<[u8]>,
    /// What is asked for over HTTP/2.
    pub uri: Uri,
}

/// How TLS is spoken, to whom.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
}

impl Job {
    pub(super) fn of(load: &Load) -> io::Result<Self> {
        let target = &load.target;
        let host = load.host.clone().unwrap_or_else(|| target.address.to_string());
        let invalid = |error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no host: {error}"))
        };
        let scheme = match target.scheme {
            Scheme::Https => "https",
            Scheme::Http | Scheme::Tcp => "http",
        };
        let path = if target.path.is_empty() { "/" } else { &target.path };
        let uri = Uri::builder().scheme(scheme).authority(host.as_str()).path_and_query(path);
        let uri = uri.build().map_err(|error| invalid(&error))?;
        let tls = match target.scheme {
            Scheme::Http | Scheme::Tcp => None,
            Scheme::Https => {
                let name = match &load.host {
                    // A port that goes into the request is no part of the name.
                    Some(_) => ServerName::try_from(uri.host().unwrap_or_default().to_owned())
                        .map_err(|error| invalid(&error))?,
                    None => ServerName::IpAddress(target.address.ip().into()),
                };
                let sessions = match load.kind {
                    Kind::HandshakeResumed => Sessions::Resumed,
                    _ => Sessions::Full,
                };
                let versions = match load.kind {
                    Kind::Handshake | Kind::HandshakeResumed => &[&TLS13][..],
                    _ => &[&TLS13, &TLS12],
                };
                let alpn = match load.version {
                    Version::Http1 => &b"http/1.1"[..],
                    Version::Http2 => b"h2",
                };
                let config = Arc::new(client_config(&load.trust, sessions, versions, alpn)?);
                Some(Tls { config, name })
            }
        };
        let request = |rest| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{rest}\r\n").into_bytes().into();
        let (kept, last) = (request(""), request("connection: close\r\n"));
        Ok(Self { address: target.address, tls, expect: Expect::of_path(path), kept, last, uri })
    }

    /// The same job with no session to take up yet.
    pub(super) fn with_its_own_sessions(&self) -> Self {
        let mut job = self.clone();
        if let Some(tls) = &mut job.tls {
            let mut config = ClientConfig::clone(&tls.config);
            config.resumption = rustls::client::Resumption::in_memory_sessions(8);
            tls.config = Arc::new(config);
        }
        job
    }
}
