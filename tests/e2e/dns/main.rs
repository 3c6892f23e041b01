//! Names: what is asked upstream and how, what is refused, and what a workload may find out.
#![cfg(test)]

mod answers;
mod ech;
mod encrypted;
mod forwarding;
mod support;
