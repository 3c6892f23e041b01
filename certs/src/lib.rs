//! The certificate authority of one instance: it lives in memory and mints, by name, the leaves
//! that a workload is shown when the gate terminates its TLS.
//!
//! A [`CertificateAuthority`] is made for each instance and dies with it. A [`LeafCache`] in front
//! of it answers, for a [`LeafName`], the TLS configuration to accept that connection with.
//! [`java_key_store()`] writes a PEM bundle in the form that a Java runtime trusts, and [`nss_database()`] an authority
//! in the form that NSS does.
//!
//! Nothing here opens a socket or a file, and nothing reads the clock to decide: `now` is handed in.
//!
//! ```
//! use std::{sync::Arc, time::SystemTime};
//! use sluicegate_certs::{CertificateAuthority, DEFAULT_CAPACITY, LeafCache, LeafName};
//!
//! # fn main() -> Result<(), sluicegate_certs::CertError> {
//! let now = SystemTime::now();
//! let authority = Arc::new(CertificateAuthority::generate("build-42", now)?);
//! let leaves = LeafCache::new(authority, DEFAULT_CAPACITY);
//! let server_config = leaves.server_config(&LeafName::dns("api.example.test")?, now)?;
//! # drop(server_config);
//! # Ok(())
//! # }
//! ```

mod authority;
mod error;
mod java_key_store;
mod leaf_cache;
mod leaf_name;
mod nss_database;
mod server_config;
mod sqlite_file;

pub use authority::{CertificateAuthority, KeptAuthority};
pub use error::CertError;
pub use java_key_store::java_key_store;
pub use leaf_cache::{DEFAULT_CAPACITY, LeafCache};
pub use leaf_name::{DnsName, LeafName};
pub use nss_database::{NssDatabase, nss_database};
