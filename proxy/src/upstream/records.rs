//! Records other than addresses, which the workload may ask for: from our name servers, or none at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_resolver::net::{DnsError, NetError};
use tokio::time::{Instant, timeout};

use super::{Upstream, UpstreamError};

/// How long all name servers together may take: shorter than the 5 s after which a workload's own
/// resolver asks once more (resolv.conf(5)).
const RECORDS_DEADLINE: Duration = Duration::from_secs(4);

/// For how long nobody is asked after no name server answered (RFC 9520 section 3.2 has one second at
/// least).
const SILENCE_KEPT: Duration = Duration::from_secs(5);

/// What a name server says about a name and a type.
#[derive(Debug)]
pub enum Records {
    /// These, aliases that led to them among them.
    Found(Vec<Record>),
    /// The name is there without such records.
    NoData,
    /// There is no such name.
    NoName,
}

/// When none of the name servers answered, so that the next question need not wait as long.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    fn lasts(&self) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < SILENCE_KEPT)
    }

    fn set(&self, silent: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = silent.then(Instant::now);
    }
}

impl Upstream {
    /// Asks for the records of one type of a name: lower-case A-labels without a last dot.
    ///
    /// # Errors
    /// [`UpstreamError::Resolver`] when no name server answers in time, or one says that it cannot.
    pub async fn records(&self, name: &str, record_type: RecordType) -> Result<Records, UpstreamError> {
        let failed = |error| UpstreamError::Resolver(Box::new(error));
        if self.silence.lasts() {
            return Err(failed(NetError::Timeout));
        }
        let resolver = self.names.resolver().await?;
        let mut absolute = Name::from_ascii(name).map_err(|error| failed(error.into()))?;
        absolute.set_fqdn(true);
        let asked = timeout(RECORDS_DEADLINE, resolver.lookup(absolute, record_type)).await;
        let answer = asked.unwrap_or(Err(NetError::Timeout));
        // Whoever says no is there.
        self.silence.set(!matches!(answer, Ok(_) | Err(NetError::Dns(_))));
        match answer {
            Ok(lookup) => {
                let left = lookup.valid_until().saturating_duration_since(std::time::Instant::now());
                let left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
                let wanted = |record: &&Record| {
                    let kind = record.record_type();
                    record.dns_class == DNSClass::IN && (kind == record_type || kind == RecordType::CNAME)
                };
                let found = lookup.answers().iter().filter(wanted).cloned().map(|mut record| {
                    record.ttl = record.ttl.min(left);
                    record
                });
                Ok(Records::Found(found.collect()))
            }
            Err(error) if error.is_nx_domain() => Ok(Records::NoName),
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Records::NoData),
            Err(error) => Err(failed(error)),
        }
    }
}
