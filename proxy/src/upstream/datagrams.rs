//! A socket for datagrams to a checked address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use sluicegate_policy::Authority;
use tokio::net::UdpSocket;

use super::{Upstream, UpstreamError};

impl Upstream {
    /// A socket that sends to the first address of the authority and hears from that one alone.
    ///
    /// # Errors
    /// [`UpstreamError`] of resolving and checking, or that the system has no way there.
    pub async fn connect_datagrams(
        &self,
        authority: &Authority,
    ) -> Result<(UdpSocket, SocketAddr), UpstreamError> {
        let mut last = UpstreamError::NoAddress;
        for address in self.addresses(authority).await? {
            match connect(address).await {
                Ok(socket) => return Ok((socket, address)),
                // No route in this family, for one.
                Err(source) => last = UpstreamError::Connect { address, source },
            }
        }
        Err(last)
    }
}

async fn connect(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(address).await?;
    Ok(socket)
}
