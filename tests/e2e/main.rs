//! The acceptance behaviours, each as a test in namespaces of its own.
#![cfg(test)]

mod bulk;
mod clients;
mod git;
mod registries;
mod self_test;
