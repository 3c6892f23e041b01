//! Containers of real engines and runtimes: sealed by name and by hook.
#![cfg(test)]

mod doctor;
mod hook;
mod names;
mod support;
