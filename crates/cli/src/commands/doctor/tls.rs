//! The certificates of a server, and the protocol that it chooses inside of TLS.
//!
//! They are looked at over a connection that trusts any certificate, is never used for calls, and carries no token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::Address;
use farcall::transport::{Dialer, Scheme};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::report::Report;
use crate::output::escape::word;
use crate::targets::settings::Settings;

/// The rest of its validity below which a certificate is bad.
const MIN_DAYS: i64 = 14;

/// Reports the certificates and the protocol of a server.
pub(super) async fn examine(address: &Address, settings: &Settings, report: &mut Report) {
    let alpn: &[u8] = if address.scheme() == Scheme::Tls { b"farcall/1" } else { b"http/1.1" };
    let chain = Arc::new(RecordedChain::default());
    let looking = look(address, alpn, &chain);
    let outcome = match tokio::time::timeout(settings.connect_timeout, looking).await {
        Ok(outcome) => outcome,
        Err(_) => Err("no answer in time".to_owned()),
    };
    match outcome {
        Ok(Some(chosen)) => report.ok("ALPN", word(&String::from_utf8_lossy(&chosen))),
        Ok(None) => report.ok("ALPN", "it chooses none"),
        Err(error) => report.bad("TLS", word(&error), "see the line `connect` below"),
    }
    let certificates = chain.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (index, der) in certificates.iter().enumerate() {
        let name = if index == 0 { "server" } else { "issuer" };
        describe(name, der, report);
    }
}

/// Makes a handshake of TLS; returns the protocol that the server chooses.
async fn look(address: &Address, alpn: &[u8], chain: &Arc<RecordedChain>) -> Result<Option<Vec<u8>>, String> {
    let stream = Dialer::default().dial(&address.clone().with_scheme(Scheme::Tcp)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let verifier: Arc<dyn ServerCertVerifier> = Arc::<RecordedChain>::clone(chain);
    let mut config = config
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let host = address.host().unwrap_or_default();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| error.to_string())?;
    Ok(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
}

/// Reports one certificate: its subject, its issuer, and the time until it expires.
fn describe(name: &str, der: &CertificateDer<'_>, report: &mut Report) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return report.bad(name, "it is no certificate", "replace the certificate of the server");
    };
    let subject = word(&certificate.subject().to_string());
    let issuer = word(&certificate.issuer().to_string());
    let left = certificate.validity().not_after.timestamp() - now();
    let days = left / Duration::from_secs(24 * 60 * 60).as_secs() as i64;
    let line = format!("{subject} (issued by {issuer}), {days} days left");
    if left < 0 {
        report.bad(name, format!("{line}: expired"), "renew the certificate");
    } else if days < MIN_DAYS {
        report.bad(name, line, "renew the certificate soon");
    } else {
        report.ok(name, line);
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as i64)
}

/// Records the certificates of a server, whatever they are.
#[derive(Debug, Default)]
struct RecordedChain(Mutex<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for RecordedChain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|certificate| certificate.clone().into_owned()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
