//! How the gate reaches upstreams: several addresses at once, networks of one family, corporate
//! proxies that are real ones, and client certificates.
#![cfg(test)]

mod certificates;
mod families;
mod proxies;
mod proxy_failures;
mod support;
