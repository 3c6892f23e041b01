//! The acceptance behaviours, each as a test in namespaces of its own.
#![cfg(test)]

mod clients;
mod self_test;
