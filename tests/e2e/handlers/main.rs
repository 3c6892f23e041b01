//! Handlers: which one runs, what it sees, what it may do, and what becomes of it when it goes wrong.
#![cfg(test)]

mod audit;
mod bodies;
mod failures;
mod flows;
mod hosts;
mod limits;
mod load;
mod reach;
mod secrets;
mod support;
mod swap;
mod views;
