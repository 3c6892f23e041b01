//! Writes a Java trust store (JKS, version 2) from a PEM bundle, so that no Java tool is needed.
//!
//! The layout is that of the `JKS` provider every Java runtime carries: a header, the entries in
//! order, and a SHA-1 over the password and all before it. A trust store holds public certificates
//! only; the password and the digest find damage, they protect nothing.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::CertError;

/// The password that Java tools try by themselves.
const PASSWORD: &str = "changeit";

const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
const TRUSTED_CERTIFICATE: u32 = 2;
const CERTIFICATE_TYPE: &str = "X.509";

/// What the digest takes between the password and the store.
const DIGEST_SALT: &[u8] = b"Mighty Aphrodite";

/// The moment at which every entry says it was added, in milliseconds since 1970 (2026-01-01). It
/// has no effect, and being fixed it gives the same store for the same bundle.
const ADDED_MILLISECONDS: u64 = 1_767_225_600_000;

/// Longest bundle taken, in octets; those of the distributions are under half a MiB.
const MAX_BUNDLE: usize = 16 << 20;

/// A Java trust store of every certificate in a PEM bundle, with the password `changeit`.
///
/// Text around the certificates and PEM sections of other kinds are passed over.
///
/// # Errors
/// [`CertError::Pem`], [`CertError::EmptyBundle`], or [`CertError::BundleTooLarge`] above 16 MiB.
pub fn java_key_store(certificates_pem: &str) -> Result<Vec<u8>, CertError> {
    if certificates_pem.len() > MAX_BUNDLE {
        return Err(CertError::BundleTooLarge { limit: MAX_BUNDLE });
    }
    let certificates = CertificateDer::pem_slice_iter(certificates_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertError::Pem)?;
    if certificates.is_empty() {
        return Err(CertError::EmptyBundle);
    }

    let mut store = Vec::with_capacity(certificates_pem.len());
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend(length(certificates.len())?.to_be_bytes());
    for (number, certificate) in (1_u32..).zip(&certificates) {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        put_text(&mut store, &format!("certificate-{number}"))?;
        store.extend(ADDED_MILLISECONDS.to_be_bytes());
        put_text(&mut store, CERTIFICATE_TYPE)?;
        store.extend(length(certificate.len())?.to_be_bytes());
        store.extend_from_slice(certificate);
    }
    let digest = digest(&store);
    store.extend(digest);
    Ok(store)
}

/// Text as `DataOutput.writeUTF` puts it: two octets of length, then the octets (ASCII here).
fn put_text(store: &mut Vec<u8>, text: &str) -> Result<(), CertError> {
    let length = u16::try_from(text.len()).map_err(|_| CertError::BundleTooLarge { limit: MAX_BUNDLE })?;
    store.extend(length.to_be_bytes());
    store.extend(text.bytes());
    Ok(())
}

/// A count or length as the format has it; nothing within [`MAX_BUNDLE`] exceeds it.
fn length(length: usize) -> Result<u32, CertError> {
    u32::try_from(length).map_err(|_| CertError::BundleTooLarge { limit: MAX_BUNDLE })
}

fn digest(store: &[u8]) -> Vec<u8> {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        context.update(&unit.to_be_bytes());
    }
    context.update(DIGEST_SALT);
    context.update(store);
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "text before\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn lays_out_one_entry() {
        let store = java_key_store(ONE).unwrap();
        let (body, digest) = store.split_at(store.len() - 20);
        let expected = [
            b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01".as_slice(),
            b"\0\0\0\x02\0\x0dcertificate-1",
            &ADDED_MILLISECONDS.to_be_bytes(),
            b"\0\x05X.509\0\0\0\x03\x01\x02\x03",
        ];
        assert_eq!(body, expected.concat());
        assert_ne!(digest, [0; 20]);
        assert_eq!(store, java_key_store(ONE).unwrap());
    }

    #[test]
    fn passes_over_other_sections() {
        let key = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";
        assert_eq!(java_key_store(&format!("{key}{ONE}")).unwrap(), java_key_store(ONE).unwrap());
        assert!(matches!(java_key_store(key), Err(CertError::EmptyBundle)));
    }

    #[test]
    fn refuses_what_is_no_bundle() {
        assert!(matches!(java_key_store(""), Err(CertError::EmptyBundle)));
        assert!(matches!(java_key_store("hello"), Err(CertError::EmptyBundle)));
        let cut = "-----BEGIN CERTIFICATE-----\nAQID\n";
        assert!(matches!(java_key_store(cut), Err(CertError::Pem(_))));
        let garbled = ONE.replace("AQID", "A!ID");
        assert!(matches!(java_key_store(&garbled), Err(CertError::Pem(_))));
        let endless = " ".repeat(MAX_BUNDLE + 1);
        assert!(matches!(java_key_store(&endless), Err(CertError::BundleTooLarge { .. })));
    }
}
