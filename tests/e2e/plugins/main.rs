//! The ready-made handlers do what their READMEs say, with the tools that people use.
#![cfg(test)]

mod folders;
mod github;
mod meter;
mod registries;
mod support;
