//! What the two sides of HTTP/2 have in common, on top of the h2 library: bodies, tunnels, heads, and a peer
//! that is gone.
//!
//! hyper would do the same with the same library, but neither hears nor sends interim responses on HTTP/2.

mod gathered;
mod head;
mod peer;
mod pump;
mod received;
mod tunnel;

pub use gathered::Gathered;
pub use head::{content_length, state_length, strip};
pub use peer::{InUse, Patience, Peer};
pub use pump::Pump;
pub use received::Received;
pub use tunnel::{Promised, Tunnel, promise};
