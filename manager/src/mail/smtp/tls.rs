//! TLS with a mail server: whom we trust, and what a failed handshake means.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};

use super::failure::Cause;
use crate::config::ConfigError;

/// Trusts this machine's authorities, and those of `ca_file` besides.
pub(super) fn configuration(ca_file: Option<&Path>) -> Result<ClientConfig, ConfigError> {
    let wrong = |reason: String| ConfigError::Setting { setting: "smtp_ca_file", reason };
    let mut trusted = RootCertStore::empty();
    // One that cannot be read is not trusted; that is found out at the handshake, and said there.
    trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let pem =
            std::fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
        let unusable = |error: &dyn std::fmt::Display| wrong(format!("{}: {error}", path.display()));
        let mut found = 0;
        for authority in CertificateDer::pem_slice_iter(&pem) {
            trusted.add(authority.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
            found += 1;
        }
        if found == 0 {
            return Err(wrong(format!("{} holds no certificate in PEM", path.display())));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(config)
}

/// The name or address that the certificate must be for.
pub(super) fn name(host: &str) -> Result<ServerName<'static>, Cause> {
    ServerName::try_from(host.to_string()).map_err(|_| Cause::Tls(format!("{host:?} is no name of a server")))
}

/// Version, cipher and the names in the certificate.
pub(super) fn agreed(connection: &ClientConnection) -> String {
    let version = connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let version = version.replace("TLSv", "TLS ").replace('_', ".");
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("?");
    let names = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|certificate| webpki::EndEntityCert::try_from(certificate).ok())
        .map(|certificate| certificate.valid_dns_names().map(str::to_string).collect::<Vec<_>>())
        .unwrap_or_default();
    let names = if names.is_empty() { "an address".into() } else { names.join(", ") };
    format!("{version}, {suite}, certificate for {names}, trusted")
}

/// Why there is no TLS.
pub(super) fn cause(error: std::io::Error) -> Cause {
    let Some(told) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Cause::Closed,
            _ => Cause::Broken(error),
        };
    };
    match told {
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            Cause::WrongName(presented.clone())
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => Cause::WrongName(Vec::new()),
        // A signature that does not fit is one of another authority of the same name.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Cause::UnknownAuthority,
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Cause::Expired,
        rustls::Error::InvalidMessage(_) => Cause::NotTls,
        other => Cause::Tls(other.to_string()),
    }
}
