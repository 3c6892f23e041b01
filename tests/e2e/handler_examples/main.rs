//! The examples with handlers do what their READMEs say, and the guide shows them as they are.
#![cfg(test)]

mod guide;
mod people;
mod requests;
mod stores;
mod support;
