//! `tls`, `client_ca` and `client_auth` of a service: how TLS is ended.

use std::collections::HashMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::check::Check;
use super::files::Named;
use super::mistake::Mistake;
use super::reader::{self, Reader, Table};
use super::source::{Span, quoted};
use super::values;
use crate::l7::spec::{CertificateSpec, ClientAuth, TlsSpec};

const EXAMPLE: &str = "write [{ chain = \"site.pem\", key = \"site.key\" }], or \"auto\" to have one made";

/// `tls` as somebody wrote it.
pub type Draft = Spanned<Vec<Certificate>>;

/// A certificate as somebody wrote it.
#[derive(Debug)]
pub enum Certificate {
    /// `auto`.
    Auto(Span),
    /// A table, or what a flag says.
    Files {
        /// Where it is.
        at: Span,
        /// `chain`.
        chain: Option<Spanned<String>>,
        /// `key`.
        key: Option<Spanned<String>>,
        /// Whether something that was written is not here, because it had the wrong type.
        incomplete: bool,
    },
}

/// Who clients must be, as somebody wrote it.
#[derive(Debug, Default)]
pub struct ClientDraft {
    /// `client_ca`.
    pub ca: Option<Spanned<String>>,
    /// `client_auth`.
    pub auth: Option<Spanned<String>>,
}

/// The words for it.
#[derive(Clone, Copy)]
enum Ask {
    Optional,
    Required,
}

/// Reads `tls`.
pub fn read(reader: &mut Reader, table: &mut Table<'_>) -> Option<Draft> {
    let value = table.value("tls")?;
    match value.get_ref() {
        DeValue::String(text) if text.as_ref() == "auto" => {
            Some(Spanned::new(value.span(), vec![Certificate::Auto(value.span())]))
        }
        DeValue::Array(items) => {
            let items = items.iter().filter_map(|item| Certificate::read(reader, item));
            Some(Spanned::new(value.span(), items.collect()))
        }
        DeValue::Table(_) => {
            let help = "put it in brackets: tls = [{ chain = \"site.pem\", key = \"site.key\" }]";
            reader.wrong_type("tls", value, "a list of certificates, or \"auto\"", help)
        }
        DeValue::Boolean(truth) if !truth => {
            let help = "for cleartext leave it out";
            reader.wrong_type("tls", value, "a list of certificates, or \"auto\"", help)
        }
        _ => reader.wrong_type("tls", value, "a list of certificates, or \"auto\"", EXAMPLE),
    }
}

impl Certificate {
    fn read<'a>(reader: &mut Reader, item: &'a Spanned<DeValue<'a>>) -> Option<Self> {
        if item.get_ref().as_str() == Some("auto") {
            return Some(Self::Auto(item.span()));
        }
        let Some(mut table) = reader::inner("a certificate", item) else {
            return reader.wrong_type("tls", item, "a list of tables, each with `chain` and `key`", EXAMPLE);
        };
        let before = reader.count();
        let (chain, key) = (table.text(reader, "chain"), table.text(reader, "key"));
        let incomplete = reader.count() > before;
        table.finish(reader);
        Some(Self::Files { at: item.span(), chain, key, incomplete })
    }

    /// From a flag: `auto`, or `site.pem,site.key`.
    pub fn from_flag(text: &str, at: Span) -> Result<Self, Mistake> {
        if text == "auto" {
            return Ok(Self::Auto(at));
        }
        let Some((chain, key)) = text.split_once(',') else {
            return Err(Mistake::new(at, format!("{} is not a chain and its key", quoted(text)))
                .help("write `--tls CHAIN,KEY`, such as `--tls site.pem,site.key`, or `--tls auto`"));
        };
        let comma = at.start + chain.len();
        Ok(Self::Files {
            chain: Some(Spanned::new(at.start..comma, chain.to_owned())),
            key: Some(Spanned::new(comma + 1..at.end, key.to_owned())),
            at,
            incomplete: false,
        })
    }

    fn span(&self) -> Span {
        match self {
            Self::Auto(at) | Self::Files { at, .. } => at.clone(),
        }
    }

    fn check(&self, check: &mut Check) -> Option<CertificateSpec> {
        let Self::Files { at, chain, key, incomplete } = self else { return Some(CertificateSpec::Auto) };
        let missing = [("chain", chain, "site.pem"), ("key", key, "site.key")];
        for (name, _, example) in missing.iter().filter(|(_, given, _)| given.is_none() && !incomplete) {
            check.add(
                Mistake::missing(at.clone(), format!("this certificate has no `{name}`"))
                    .help(format!("write {name} = \"{example}\" in it: the name of a PEM file")),
            );
        }
        let (chain, key) = (check.file(chain.as_ref()), check.file(key.as_ref()));
        let (chain, key) = (chain?, key?);
        check.names_file(Named::Certificate { chain: chain.clone(), key: key.clone() });
        Some(CertificateSpec::Files { chain: chain.path, key: key.path })
    }
}

/// Checks all of it; `None` for cleartext.
pub fn check(
    check: &mut Check,
    draft: Option<&Draft>,
    client: &ClientDraft,
    complete: bool,
) -> Option<TlsSpec> {
    let asked = client.check(check, complete);
    let Some(draft) = draft else {
        let (first, key) = (client.auth.as_ref(), "client_auth");
        if let Some((given, key)) =
            client.ca.as_ref().map(|ca| (ca, "client_ca")).or(first.map(|auth| (auth, key)))
            && complete
        {
            let message = format!("`{key}` needs TLS, and this service has none");
            let help = "add `tls = [{ chain = \"site.pem\", key = \"site.key\" }]`, or leave it out";
            check.add(Mistake::missing(given.span(), message).help(help));
        }
        return None;
    };
    let written = draft.get_ref();
    if written.is_empty() && complete {
        let help = format!("{EXAMPLE}; for cleartext leave it out");
        check.add(
            Mistake::new(draft.span(), format!("{} has no certificate", check.names.of("tls"))).help(help),
        );
    }
    let auto = written.iter().find(|certificate| matches!(certificate, Certificate::Auto(_)));
    if let (Some(auto), 2..) = (auto, written.len()) {
        check.add(
            Mistake::new(auto.span(), "`auto` stands alone: the certificate that is made is for every host")
                .help("leave it out, or the others"),
        );
    }
    let mut seen: HashMap<PathBuf, Span> = HashMap::new();
    let mut certificates = Vec::new();
    for certificate in written {
        let Some(spec) = certificate.check(check) else { continue };
        if let CertificateSpec::Files { chain, .. } = &spec
            && let Some(first) = seen.insert(chain.clone(), certificate.span())
        {
            let mistake = Mistake::new(certificate.span(), "this certificate is there twice");
            check.add(mistake.also(first, "first here").help("leave one out"));
        }
        certificates.push(spec);
    }
    Some(TlsSpec { certificates, client: asked })
}

impl ClientDraft {
    fn check(&self, check: &mut Check, complete: bool) -> ClientAuth {
        let words = [("optional", Ask::Optional), ("required", Ask::Required)];
        let ask = check.value(self.auth.as_ref(), |word| values::one_of("`client_auth`", word, &words));
        let ca = check.file(self.ca.as_ref());
        if let Some(ca) = &ca {
            check.names_file(Named::Authority(ca.clone()));
        }
        match (&self.ca, &self.auth) {
            (Some(given), None) if complete => check.add(
                Mistake::missing(given.span(), "this does not say whether clients must show a certificate")
                    .help("add `client_auth = \"required\"`, or \"optional\""),
            ),
            (None, Some(given)) if complete => check.add(
                Mistake::missing(
                    given.span(),
                    "this does not say whose signature on clients' certificates counts",
                )
                .help("add `client_ca = \"ca.pem\"`: a PEM file with the certificates of those who sign"),
            ),
            (_, _) => {}
        }
        match (ask, ca) {
            (Some(Ask::Optional), Some(ca)) => ClientAuth::Optional(ca.path),
            (Some(Ask::Required), Some(ca)) => ClientAuth::Required(ca.path),
            (_, _) => ClientAuth::None,
        }
    }
}
