//! What is handed out: packages, the installer, manual pages, units, manifests. Made of the programs under test,
//! since a release takes many minutes to build; `scripts/release` checks by itself what only holds for its own.
#![cfg(test)]

mod action;
mod archives;
mod installer;
mod kubernetes;
mod manual;
mod shop;
mod systemd;
