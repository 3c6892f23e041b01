//! Ends an upgraded connection with a reset, so that the other side sees that it was broken off and not
//! an end of data.

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::leaving::Left;
use crate::head_guard::HeadGuard;
use crate::rewind::Rewind;
use crate::sniff::reset;
use crate::splice;
use crate::upstream::Wire;

/// What the workload's connection is below HTTP/1.
type Plain = TokioIo<HeadGuard<Rewind<TcpStream>>>;
type Tls = TokioIo<HeadGuard<server::TlsStream<Rewind<TcpStream>>>>;

/// Resets the workload's connection, or its stream: a connection of HTTP/2 has others.
pub(super) fn workload(left: Left) {
    let upgraded = match left {
        Left::Http1(io) => io.into_inner(),
        Left::Http2(tunnel) => return tunnel.break_off(),
    };
    match upgraded.downcast::<Plain>() {
        Ok(parts) => reset(parts.io.into_inner().into_inner().into_inner()),
        Err(upgraded) => {
            if let Ok(parts) = upgraded.downcast::<Tls>() {
                reset(parts.io.into_inner().into_inner().into_inner().0.into_inner());
            }
        }
    }
}

/// Resets the upstream's connection, or its stream.
pub(super) fn upstream(left: Left) {
    let upgraded = match left {
        Left::Http1(io) => io.into_inner(),
        Left::Http2(tunnel) => return tunnel.break_off(),
    };
    match upgraded.downcast::<TokioIo<Wire>>() {
        Ok(parts) => splice::break_off(parts.io.into_inner()),
        Err(upgraded) => {
            if let Ok(parts) = upgraded.downcast::<TokioIo<Box<client::TlsStream<Wire>>>>() {
                splice::break_off(parts.io.into_inner().into_inner().0);
            }
        }
    }
}
