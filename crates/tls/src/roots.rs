//! The authorities that a side trusts: those in PEM, and those of the system.

use rustls::RootCertStore;
use tracing::debug;

use crate::error::{PemError, TlsError};
use crate::file::FileContent;
use crate::pem::Pem;

/// Adds the certificates in some PEM, at least one. `part` names them in errors, such as
/// `root certificate`; `files` has the content of the file, if it is one.
///
/// # Errors
///
/// There is no certificate in it, one is damaged, or rustls rejects one.
pub fn add_roots(
    roots: &mut RootCertStore,
    part: &'static str,
    pem: &Pem,
    files: &[FileContent],
) -> Result<(), TlsError> {
    for certificate in pem.certificates(part, files)? {
        roots.add(certificate).map_err(|error| pem.error(part, PemError::rejected(error)))?;
    }
    Ok(())
}

/// Adds the authorities that the system trusts. Blocks while it reads some hundred files.
///
/// # Errors
///
/// [`TlsError::NoSystemRoots`] if none can be read; the store is unchanged then.
pub fn add_system_roots(roots: &mut RootCertStore) -> Result<(), TlsError> {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        debug!(%error, "a root certificate of the system cannot be read");
    }
    // Old ones that rustls does not accept are common in the stores of systems.
    let (added, _ignored) = roots.add_parsable_certificates(native.certs);
    if added > 0 { Ok(()) } else { Err(TlsError::no_system_roots(native.errors.into_iter().next())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_that_is_not_a_certificate_is_rejected() {
        let pem = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let mut roots = RootCertStore::empty();
        let outcome = add_roots(&mut roots, "root certificate", &Pem::Text(pem.into()), &[]);
        assert!(matches!(outcome, Err(TlsError::Pem { error: PemError::Rejected(_), .. })), "{outcome:?}");
        assert!(roots.is_empty());
    }

    #[test]
    fn authorities_of_the_system_are_added_or_missed() {
        let mut roots = RootCertStore::empty();
        // A machine may have none.
        let found = rustls_native_certs::load_native_certs().certs;
        let has_some = found.into_iter().any(|found| RootCertStore::empty().add(found).is_ok());
        let outcome = add_system_roots(&mut roots);
        assert_eq!((outcome.is_ok(), roots.is_empty()), (has_some, !has_some), "{outcome:?}");
        let missed = matches!(outcome, Err(TlsError::NoSystemRoots { .. }));
        assert_eq!(missed, !has_some);
    }
}
