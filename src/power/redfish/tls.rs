//! Whose certificate a BMC may show: one of the system's authorities', exactly one, or any.
//!
//! BMCs come with certificates that they signed themselves, so that pinning one is the usual way. What was
//! shown is remembered, for the message that tells a person what to compare and pin.

use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_rustls::TlsConnector;

use crate::power::PowerError;
use crate::vocab::Digest;
use crate::vocab::power::BmcTrust;

/// 64 lower-case digits of a fingerprint as people write it: with colons, in capitals, with `sha256:`.
pub fn fingerprint(text: &str) -> Result<String, String> {
    let bare = text.trim().to_ascii_lowercase();
    let bare: String = bare
        .trim_start_matches("sha256")
        .chars()
        .filter(|c| !matches!(c, ':' | '=' | ' ' | '-'))
        .collect();
    match bare.len() == 64 && bare.chars().all(|c| c.is_ascii_hexdigit()) {
        true => Ok(bare),
        false => Err(format!(
            "{:?} is not a certificate's SHA-256: 64 hexadecimal digits, as `openssl x509 -fingerprint -sha256` prints them",
            text.chars().take(100).collect::<String>()
        )),
    }
}

/// Decides about certificates, and remembers the last one.
#[derive(Debug)]
pub struct Judge {
    trust: BmcTrust,
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    shown: Mutex<Option<String>>,
}

impl Judge {
    pub fn new(trust: &BmcTrust) -> Result<Arc<Self>, PowerError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = match trust {
            BmcTrust::Authorities => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                Some(verifier.build().map_err(|error| {
                    PowerError::Untrusted(format!("the system has no authorities ({error}); install the package ca-certificates, or pin the BMC's certificate with --fingerprint"))
                })?)
            }
            BmcTrust::Fingerprint(_) | BmcTrust::Insecure => None,
        };
        Ok(Arc::new(Self {
            trust: trust.clone(),
            provider,
            authorities,
            shown: Mutex::default(),
        }))
    }

    pub fn connector(self: &Arc<Self>) -> Result<TlsConnector, PowerError> {
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| PowerError::Untrusted(format!("TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(self.clone())
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// SHA-256 of the certificate that was shown last.
    pub fn shown(&self) -> Option<String> {
        self.shown
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
            .clone()
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Digest::of(end_entity).to_string();
        let shown = shown.trim_start_matches("sha256:").to_owned();
        *self
            .shown
            .lock()
            .unwrap_or_else(|broken| broken.into_inner()) = Some(shown.clone());
        match (&self.trust, &self.authorities) {
            (BmcTrust::Authorities, Some(authorities)) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            (BmcTrust::Fingerprint(pinned), _) if *pinned == shown => {
                Ok(ServerCertVerified::assertion())
            }
            (BmcTrust::Insecure, _) => Ok(ServerCertVerified::assertion()),
            _ => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }

    // Whoever shows a certificate has to have its key, pinned or not.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let plain = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        for text in [
            plain.clone(),
            plain.to_uppercase(),
            colons.clone(),
            format!("sha256:{plain}"),
            format!("SHA256 Fingerprint={colons}").replace("Fingerprint", ""),
            format!(" {plain}\n"),
        ] {
            assert_eq!(fingerprint(&text).unwrap(), plain, "{text}");
        }
        for text in ["", "abc", &"ab".repeat(20), &"zz".repeat(32)] {
            assert!(fingerprint(text).is_err(), "{text}");
        }
    }
}
