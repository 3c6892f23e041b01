//! Ends an upgraded connection with a reset, so that the other side sees that it was broken off and not
//! an end of data.

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use crate::head_guard::HeadGuard;
use crate::rewind::Rewind;
use crate::sniff::reset;
use crate::splice;
use crate::upstream::Wire;

/// What the workload's connection is below HTTP/1.
type Plain = TokioIo<HeadGuard<Rewind<TcpStream>>>;
type Tls = TokioIo<HeadGuard<server::TlsStream<Rewind<TcpStream>>>>;

/// Resets the workload's connection. A stream of HTTP/2 ends with its drop: its connection has others.
pub(super) fn workload(upgraded: Upgraded) {
    match upgraded.downcast::<Plain>() {
        Ok(parts) => reset(parts.io.into_inner().into_inner().into_inner()),
        Err(upgraded) => {
            if let Ok(parts) = upgraded.downcast::<Tls>() {
                reset(parts.io.into_inner().into_inner().into_inner().0.into_inner());
            }
        }
    }
}

/// Resets the upstream's connection.
pub(super) fn upstream(upgraded: Upgraded) {
    match upgraded.downcast::<TokioIo<Wire>>() {
        Ok(parts) => splice::break_off(parts.io.into_inner()),
        Err(upgraded) => {
            if let Ok(parts) = upgraded.downcast::<TokioIo<Box<client::TlsStream<Wire>>>>() {
                splice::break_off(parts.io.into_inner().into_inner().0);
            }
        }
    }
}
