//! Digests.

use aws_lc_rs::digest::{SHA256, digest};

use crate::bindings::policy::digest::Host;
use crate::state::State;

impl Host for State {
    fn sha256(&mut self, data: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        Ok(digest(&SHA256, &data).as_ref().to_vec())
    }
}
