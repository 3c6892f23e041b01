//! WebSockets and other upgrades: real servers and clients, through rules, handlers and newer policies.
#![expect(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "what cannot be set up must fail, and who is answered may have gone"
)]

mod ends;
mod handlers;
mod http2;
mod judged;
mod malformed;
mod messages;
mod support;
mod upgrades;
