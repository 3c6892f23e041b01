//! The certificate authority of one instance: its key, its certificate, and the leaves it signs.
//!
//! **Invariant:** the authority's key is made in memory; no function but [`CertificateAuthority::keep`] returns it,
//! and it signs only the authority's own certificate and leaves for one [`LeafName`].
//!
//! **Invariant:** every certificate passes OpenSSL's strict checks (RFC 5280): critical
//! BasicConstraints and KeyUsage on the authority, a key identifier that each leaf repeats, and
//! never an empty subject without a critical subject alternative name.

use std::{
    fmt,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};

use crate::{CertError, LeafName, server_config::ServerConfigTemplate};

/// How far before now a certificate begins, for workloads whose clock is behind.
const BACKDATE: Duration = Duration::from_hours(48);

/// How long an authority lives: longer than an instance should, short enough to need no revocation.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// How long a leaf lives from when it is minted. With [`BACKDATE`] three days in all, far below
/// any limit that a client sets on a server certificate.
const LEAF_LIFETIME: Duration = Duration::from_hours(24);

/// Longest X.520 common name (RFC 5280 appendix A.1, `ub-common-name`), in octets here.
const MAX_COMMON_NAME: usize = 64;

/// 9999-12-31T23:59:59Z, the last moment that a certificate can state (RFC 5280 §4.1.2.5), in
/// seconds since 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// The certificate authority of one instance, with the one key that all of its leaves share.
///
/// Two authorities never have the same key or the same subject, whatever their instances are
/// called, so a client that trusts both cannot take one for the other.
pub struct CertificateAuthority {
    issuer: Issuer<'static, P256Key>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    subject: String,
    validity: Range<SystemTime>,
    leaf_key: P256Key,
    template: ServerConfigTemplate,
}

/// All that an authority consists of, for the process that takes its instance over. It is secret, and is to be
/// passed from memory to memory alone.
pub struct KeptAuthority {
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// Its subject's common name.
    pub subject: String,
    /// When it is valid.
    pub validity: Range<SystemTime>,
    /// Its private key, in PKCS #8 (RFC 5958).
    pub key: Vec<u8>,
    /// The private key of its leaves, likewise.
    pub leaf_key: Vec<u8>,
}

/// A minted leaf, ready to accept connections.
pub(crate) struct Identity {
    /// Presents the leaf.
    pub(crate) config: Arc<ServerConfig>,
    /// While the leaf may be presented; outside of it, another must be minted.
    pub(crate) fresh: Range<SystemTime>,
}

impl CertificateAuthority {
    /// Makes the keys and the certificate of a new authority, valid from 48 hours before `now` to
    /// 30 days after.
    ///
    /// `instance` is put into the subject for people to recognise, cut to what fits.
    ///
    /// # Errors
    /// [`CertError::Crypto`], [`CertError::Sign`] or [`CertError::Tls`] where a library fails, and
    /// [`CertError::ClockOutOfRange`].
    pub fn generate(instance: &str, now: SystemTime) -> Result<Self, CertError> {
        let key = P256Key::generate()?;
        let leaf_key = P256Key::generate()?;
        let template = ServerConfigTemplate::new(&leaf_key.to_pkcs8()?)?;
        let validity = authority_validity(now)?;
        let subject = authority_subject(instance, random::<4>()?);

        let params = authority_params(&subject, &validity, &key)?;
        let certificate = params.self_signed(&key).map_err(CertError::Sign)?;

        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem: certificate.pem(),
            certificate: certificate.into(),
            subject,
            validity,
            leaf_key,
            template,
        })
    }

    /// What the process that takes this instance over needs to go on as the same authority.
    ///
    /// # Errors
    /// [`CertError::Crypto`].
    pub fn keep(&self) -> Result<KeptAuthority, CertError> {
        Ok(KeptAuthority {
            certificate_pem: self.certificate_pem.clone(),
            subject: self.subject.clone(),
            validity: self.validity.clone(),
            key: self.issuer.key().to_pkcs8()?.secret_der().to_vec(),
            leaf_key: self.leaf_key.to_pkcs8()?.secret_der().to_vec(),
        })
    }

    /// Goes on as an authority that was kept.
    ///
    /// # Errors
    /// [`CertError::Kept`] and [`CertError::Pem`] where a part cannot be read; else as [`Self::generate`].
    pub fn go_on(kept: KeptAuthority) -> Result<Self, CertError> {
        let KeptAuthority { certificate_pem, subject, validity, key, leaf_key } = kept;
        let (key, leaf_key) = (P256Key::from_pkcs8(&key)?, P256Key::from_pkcs8(&leaf_key)?);
        let template = ServerConfigTemplate::new(&leaf_key.to_pkcs8()?)?;
        let params = authority_params(&subject, &validity, &key)?;
        Ok(Self {
            certificate: CertificateDer::from_pem_slice(certificate_pem.as_bytes())
                .map_err(CertError::Pem)?,
            certificate_pem,
            issuer: Issuer::new(params, key),
            subject,
            validity,
            leaf_key,
            template,
        })
    }

    /// The authority's certificate in PEM, for the workload's trust store.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Mints a leaf for exactly `name`.
    ///
    /// # Errors
    /// [`CertError::AuthorityExpired`], [`CertError::ClockOutOfRange`], or [`CertError::Crypto`]
    /// and [`CertError::Sign`] where a library fails.
    pub(crate) fn mint(&self, name: &LeafName, now: SystemTime) -> Result<Identity, CertError> {
        let validity = leaf_validity(&self.validity, now)?;
        let mut params = certificate_params(&validity)?;
        let text = name.to_string();
        // A longer name leaves the subject empty, upon which the alternative name is critical.
        if text.len() <= MAX_COMMON_NAME {
            params.distinguished_name.push(DnType::CommonName, text.as_str());
        }
        params.subject_alt_names = vec![match name {
            LeafName::Dns(_) => SanType::DnsName(text.try_into().map_err(CertError::Sign)?),
            LeafName::Ip(address) => SanType::IpAddress(*address),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer).map_err(CertError::Sign)?;
        Ok(Identity { config: self.template.with_leaf(leaf.into()), fresh: freshness(&validity, now) })
    }
}

/// Shows the subject and nothing that is secret.
impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// A P-256 key pair that lives in the cryptographic library's memory.
struct P256Key(EcdsaKeyPair);

impl P256Key {
    fn generate() -> Result<Self, CertError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Self).map_err(CertError::Crypto)
    }

    fn from_pkcs8(key: &[u8]) -> Result<Self, CertError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key).map(Self).map_err(CertError::Kept)
    }

    /// The private key in the form that the TLS library loads.
    fn to_pkcs8(&self) -> Result<PrivateKeyDer<'static>, CertError> {
        let document = self.0.to_pkcs8v1().map_err(CertError::Crypto)?;
        Ok(PrivatePkcs8KeyDer::from(document.as_ref().to_vec()).into())
    }
}

impl PublicKeyData for P256Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for P256Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| rcgen::Error::RingUnspecified)
    }
}

/// What an authority's certificate says, and what its leaves say of it.
fn authority_params(
    subject: &str,
    validity: &Range<SystemTime>,
    key: &P256Key,
) -> Result<CertificateParams, CertError> {
    let mut params = certificate_params(validity)?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Fixed here once, for the authority key identifier of a leaf must be these very octets.
    params.key_identifier_method = KeyIdMethod::PreSpecified(params.key_identifier(key));
    Ok(params)
}

/// What the authority's certificate and its leaves have in common; the subject is empty.
fn certificate_params(validity: &Range<SystemTime>) -> Result<CertificateParams, CertError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + since_epoch(validity.start)?;
    params.not_after = epoch + since_epoch(validity.end)?;
    params.serial_number = Some(serial_number()?);
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// 16 random octets that are positive and never shorten (RFC 5280 §4.1.2.2): the top bit is clear
/// and the next is set.
fn serial_number() -> Result<SerialNumber, CertError> {
    let [first, rest @ ..] = random::<16>()?;
    let mut octets = vec![(first & 0x7f) | 0x40];
    octets.extend(rest);
    Ok(SerialNumber::from(octets))
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], CertError> {
    let mut octets = [0; LENGTH];
    rand::fill(&mut octets).map_err(CertError::Crypto)?;
    Ok(octets)
}

/// A common name for people to recognise the instance by, and unique by its random end.
fn authority_subject(instance: &str, unique: [u8; 4]) -> String {
    const PREFIX: &str = "Sluicegate instance ";
    let unique = format!(" {:08x}", u32::from_be_bytes(unique));
    let room = MAX_COMMON_NAME - PREFIX.len() - unique.len();
    let mut instance: String =
        instance.chars().take(room).map(|c| if c.is_control() { '-' } else { c }).collect();
    instance.truncate(instance.floor_char_boundary(room));
    format!("{PREFIX}{instance}{unique}")
}

fn authority_validity(now: SystemTime) -> Result<Range<SystemTime>, CertError> {
    let start = now.checked_sub(BACKDATE).ok_or(CertError::ClockOutOfRange)?;
    let end = now.checked_add(AUTHORITY_LIFETIME).ok_or(CertError::ClockOutOfRange)?;
    Ok(start..end)
}

/// A leaf is never valid when its authority is not.
fn leaf_validity(authority: &Range<SystemTime>, now: SystemTime) -> Result<Range<SystemTime>, CertError> {
    if now >= authority.end {
        return Err(CertError::AuthorityExpired);
    }
    let start = now.checked_sub(BACKDATE).ok_or(CertError::ClockOutOfRange)?;
    let end = now.checked_add(LEAF_LIFETIME).ok_or(CertError::ClockOutOfRange)?;
    Ok(start.max(authority.start)..end.min(authority.end))
}

/// From the leaf's beginning (a clock may be set back) until a quarter of what it has ahead is
/// left, so that a connection accepted at the last moment still outlives its handshake by far.
fn freshness(validity: &Range<SystemTime>, now: SystemTime) -> Range<SystemTime> {
    let ahead = validity.end.duration_since(now).unwrap_or_default();
    validity.start..validity.end.checked_sub(ahead / 4).unwrap_or(validity.end)
}

/// The time as a certificate states it, within what it can state.
fn since_epoch(time: SystemTime) -> Result<Duration, CertError> {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .filter(|elapsed| elapsed.as_secs() <= LAST_SECOND)
        .ok_or(CertError::ClockOutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z and so many hours.
    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600) + Duration::from_hours(hours)
    }

    #[test]
    fn leaf_validity_stays_within_the_authority() {
        let authority = authority_validity(at(100)).unwrap();
        assert_eq!(authority, at(52)..at(820));
        for (now, expected) in [
            (at(100), at(52)..at(124)),
            (at(90), at(52)..at(114)),
            (at(200), at(152)..at(224)),
            (at(810), at(762)..at(820)),
        ] {
            assert_eq!(leaf_validity(&authority, now).unwrap(), expected);
        }
        for now in [at(820), at(821)] {
            assert!(matches!(leaf_validity(&authority, now), Err(CertError::AuthorityExpired)));
        }
    }

    #[test]
    fn a_leaf_is_fresh_until_a_quarter_is_left() {
        assert_eq!(freshness(&(at(52)..at(124)), at(100)), at(52)..at(118));
    }

    #[test]
    fn refuses_a_clock_that_no_certificate_can_state() {
        let early = SystemTime::UNIX_EPOCH + Duration::from_hours(47);
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
        let endless = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX >> 1);
        for now in [early, last, last - AUTHORITY_LIFETIME + Duration::from_secs(1), endless] {
            let refused = CertificateAuthority::generate("x", now);
            assert!(matches!(refused, Err(CertError::ClockOutOfRange)), "{refused:?}");
        }
        CertificateAuthority::generate("x", last - AUTHORITY_LIFETIME).unwrap();
        CertificateAuthority::generate("x", SystemTime::UNIX_EPOCH + BACKDATE).unwrap();
    }

    #[test]
    fn the_subject_fits_whatever_the_instance_is_called() {
        let unique = [0, 0, 0xab, 1];
        assert_eq!(authority_subject("web", unique), "Sluicegate instance web 0000ab01");
        assert_eq!(authority_subject("a\nb\0", unique), "Sluicegate instance a-b- 0000ab01");
        for instance in [String::new(), "a".repeat(500), "é".repeat(500), "a🚰".repeat(500)] {
            let subject = authority_subject(&instance, unique);
            assert!(subject.len() <= MAX_COMMON_NAME, "{subject}");
            assert!(subject.ends_with(" 0000ab01"), "{subject}");
        }
    }

    #[test]
    fn an_authority_that_was_kept_goes_on_as_the_same() {
        let first = CertificateAuthority::generate("web", at(0)).unwrap();
        let second = CertificateAuthority::go_on(first.keep().unwrap()).unwrap();
        assert_eq!(second.certificate_pem(), first.certificate_pem());
        assert_eq!(
            (second.subject.clone(), second.validity.clone()),
            (first.subject.clone(), first.validity.clone())
        );
        let kept = [first, second].map(|authority| authority.keep().unwrap());
        let [first, second] = kept;
        assert!(first.key == second.key && first.leaf_key == second.leaf_key);
        let broken = KeptAuthority { key: vec![0; 3], ..first };
        assert!(matches!(CertificateAuthority::go_on(broken), Err(CertError::Kept(_))));
    }

    #[test]
    fn debug_shows_the_subject_only() {
        let authority = CertificateAuthority::generate("web", at(0)).unwrap();
        let subject = authority.subject.clone();
        let expected = format!("CertificateAuthority {{ subject: {subject:?}, .. }}");
        assert_eq!(format!("{authority:?}"), expected);
    }
}
