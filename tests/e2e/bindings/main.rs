//! Handlers' stores outside of the gate: a Redis server and an S3 service, both real.
#![cfg(test)]

mod bucket;
mod redis;
