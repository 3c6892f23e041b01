//! Everything that can go wrong between a name and a certificate for it.

use rustls::pki_types::pem;

/// Why a certificate, a TLS configuration or a trust store could not be made.
///
/// `Display` says this level only; the cause is the error's source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// The name is not one that a certificate may be made for. Names come from the workload, so
    /// this is its doing: refuse the connection.
    #[error("{name:?} cannot be certified: it {reason}")]
    InvalidName {
        /// The name as it was given, cut to the length that a name may have.
        name: String,
        /// What is wrong with it, to be read after "it".
        reason: &'static str,
    },
    /// The system's random source or the cryptographic library failed; it does not in practice.
    #[error("the cryptographic library made no key or random number")]
    Crypto(#[source] aws_lc_rs::error::Unspecified),
    /// A key that was kept is none.
    #[error("the key that was kept cannot be read")]
    Kept(#[source] aws_lc_rs::error::KeyRejected),
    /// A certificate could not be encoded or signed.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
    /// The TLS library refused the leaf key or the protocol versions.
    #[error("the TLS configuration could not be made")]
    Tls(#[source] rustls::Error),
    /// The system clock stands outside of what a certificate can express (the years 1970 to 9999);
    /// most likely it was never set.
    #[error("the clock stands outside of the years 1970 to 9999")]
    ClockOutOfRange,
    /// The instance has outlived its authority. A new instance has a new one.
    #[error("the certificate authority of this instance has expired")]
    AuthorityExpired,
    /// The bundle is not PEM.
    #[error("the certificate bundle is not valid PEM")]
    Pem(#[source] pem::Error),
    /// The bundle holds no certificate, and Java refuses to start with an empty trust store.
    #[error("the certificate bundle holds no certificate")]
    EmptyBundle,
    /// The bundle is longer than any real one.
    #[error("the certificate bundle is longer than {limit} octets")]
    BundleTooLarge {
        /// The longest bundle taken, in octets.
        limit: usize,
    },
    /// The certificate is not built as those made here are.
    #[error("the authority's certificate has another form than those made here")]
    Form,
}
