//! Writes the authority as a certificate database of NSS, so that no NSS tool is needed.
//!
//! NSS keeps objects of PKCS #11 in SQLite, a row for each and a column for each attribute
//! (`lib/softoken/sdb.c` of NSS). What is written here is for reading only, as the database of a module
//! besides the user's own. Tests have NSS 3.87 and 3.110 read it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::CertError;
use crate::sqlite_file::{Table, Value, sqlite_file};

/// What people see it as.
const LABEL: &[u8] = b"Sluicegate";

const TRUE: &[u8] = &[1];
const FALSE: &[u8] = &[0];
/// An attribute that is there and empty.
const EMPTY: &[u8] = b"\xa5\x00\x5a";

/// Classes of objects: `CKO_CERTIFICATE`, and NSS's `CKO_NSS_TRUST`.
const CERTIFICATE: &[u8] = b"\x00\x00\x00\x01";
const TRUST: &[u8] = b"\xce\x53\x43\x53";
/// `CKC_X_509`.
const X_509: &[u8] = b"\x00\x00\x00\x00";
/// `CKT_NSS_TRUSTED_DELEGATOR`: an authority; `CKT_NSS_MUST_VERIFY_TRUST`: nothing that it says.
const AUTHORITY: &[u8] = b"\xce\x53\x43\x52";
const NOTHING: &[u8] = b"\xce\x53\x43\x53";

/// The columns, of which NSS makes one for each attribute that it knows: `a` and its number. Those that are not
/// there are attributes that no object has.
const COLUMNS: [&str; 18] = [
    "id",
    "a0",        // CKA_CLASS
    "a1",        // CKA_TOKEN
    "a2",        // CKA_PRIVATE
    "a3",        // CKA_LABEL
    "a11",       // CKA_VALUE
    "a80",       // CKA_CERTIFICATE_TYPE
    "a81",       // CKA_ISSUER
    "a82",       // CKA_SERIAL_NUMBER
    "a101",      // CKA_SUBJECT
    "a102",      // CKA_ID
    "a170",      // CKA_MODIFIABLE
    "ace536358", // CKA_TRUST_SERVER_AUTH
    "ace536359", // CKA_TRUST_CLIENT_AUTH
    "ace53635a", // CKA_TRUST_CODE_SIGNING
    "ace53635b", // CKA_TRUST_EMAIL_PROTECTION
    "ace536360", // CKA_TRUST_STEP_UP_APPROVED
    "ace5363b4", // CKA_CERT_SHA1_HASH
];

/// The files of a database.
#[derive(Debug)]
pub struct NssDatabase {
    /// `cert9.db`.
    pub certificates: Vec<u8>,
    /// `key4.db`: no key, and no password.
    pub keys: Vec<u8>,
}

/// A database of NSS in which an authority is trusted for TLS servers, and for nothing else.
///
/// # Errors
/// [`CertError::Pem`], and [`CertError::Form`] for a certificate that is not like those made here.
pub fn nss_database(authority_pem: &str) -> Result<NssDatabase, CertError> {
    let certificate = CertificateDer::from_pem_slice(authority_pem.as_bytes()).map_err(CertError::Pem)?;
    files(&certificate).ok_or(CertError::Form)
}

fn files(certificate: &[u8]) -> Option<NssDatabase> {
    let Names { serial, issuer, subject } = names(certificate)?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
    let hash = hash.as_ref();
    let certificate = row(
        1,
        &[
            ("a0", CERTIFICATE),
            ("a1", TRUE),
            ("a2", FALSE),
            ("a3", LABEL),
            ("a11", certificate),
            ("a80", X_509),
            ("a81", issuer),
            ("a82", serial),
            ("a101", subject),
            ("a102", hash),
            ("a170", FALSE),
        ],
    );
    let trust = row(
        2,
        &[
            ("a0", TRUST),
            ("a1", TRUE),
            ("a2", FALSE),
            ("a3", EMPTY),
            ("a81", issuer),
            ("a82", serial),
            ("a170", FALSE),
            ("ace536358", AUTHORITY),
            ("ace536359", NOTHING),
            ("ace53635a", NOTHING),
            ("ace53635b", NOTHING),
            ("ace536360", FALSE),
            ("ace5363b4", hash),
        ],
    );
    let public = Table { name: "nssPublic", columns: &COLUMNS, rows: vec![certificate, trust] };
    let private = Table { name: "nssPrivate", columns: &COLUMNS, rows: Vec::new() };
    let metadata = Table { name: "metaData", columns: &["id", "item1", "item2"], rows: Vec::new() };
    Some(NssDatabase { certificates: sqlite_file(&[public])?, keys: sqlite_file(&[private, metadata])? })
}

/// An object with these attributes.
fn row<'a>(id: u8, attributes: &[(&str, &'a [u8])]) -> Vec<Value<'a>> {
    let value = |column: &&str| {
        let attribute = attributes.iter().find(|(name, _)| name == column);
        attribute.map_or(Value::Null, |(_, bytes)| Value::Blob(bytes))
    };
    [Value::Number(id)].into_iter().chain(COLUMNS.iter().skip(1).map(value)).collect()
}

/// What a certificate is found by, each with its tag and length.
struct Names<'a> {
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
}

/// Reads a certificate of version 3 (RFC 5280 section 4.1).
fn names(certificate: &[u8]) -> Option<Names<'_>> {
    let certificate = element(certificate)?.content;
    let version = element(element(certificate)?.content)?;
    let serial = element(version.rest)?;
    let signature = element(serial.rest)?;
    let issuer = element(signature.rest)?;
    let validity = element(issuer.rest)?;
    let subject = element(validity.rest)?;
    Some(Names { serial: serial.whole, issuer: issuer.whole, subject: subject.whole })
}

/// A value in DER, and what follows it.
struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

/// The first value (X.690 sections 8.1.2 and 8.1.3), of at most 64 KiB.
fn element(der: &[u8]) -> Option<Element<'_>> {
    let (header, length) = match der {
        [_, length @ 0..=0x7f, ..] => (2, usize::from(*length)),
        [_, 0x81, length, ..] => (3, usize::from(*length)),
        [_, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return None,
    };
    let (whole, rest) = der.split_at_checked(header + length)?;
    Some(Element { whole, content: whole.get(header..)?, rest })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::CertificateAuthority;

    #[test]
    fn holds_the_certificate_and_by_what_it_is_found() {
        let authority = CertificateAuthority::generate("test", SystemTime::now()).unwrap();
        let certificate = authority.certificate_der();
        let found = names(certificate).unwrap();
        assert_eq!(found.issuer, found.subject, "it has signed itself");
        assert_eq!((found.serial[0], found.issuer[0]), (0x02, 0x30));
        let database = nss_database(authority.certificate_pem()).unwrap();
        let count = |part: &[u8]| {
            let windows = database.certificates.windows(part.len());
            windows.filter(|window| *window == part).count()
        };
        assert_eq!(count(certificate), 1);
        // Within the certificate, beside it, and with what is trusted.
        assert_eq!((count(found.serial), count(found.subject)), (3, 5));
        assert_eq!(count(AUTHORITY), 1);
        assert_eq!((database.certificates.len(), database.keys.len()), (2 * 4096, 3 * 4096));
    }

    #[test]
    fn another_form_is_refused() {
        let pem =
            |base64: &str| format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        assert!(matches!(nss_database("none"), Err(CertError::Pem(_))));
        // Lengths beyond the end, and of more octets than a certificate's.
        for base64 in ["AQID", "MIMB", "MAMwAaA=", "MIL//w=="] {
            assert!(matches!(nss_database(&pem(base64)), Err(CertError::Form)), "{base64}");
        }
    }
}
