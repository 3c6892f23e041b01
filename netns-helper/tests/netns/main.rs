//! The helper in real namespaces, as root and as an ordinary user; needs root to become both.
#![cfg(test)]

mod attach;
mod linking;
mod run;
mod support;
