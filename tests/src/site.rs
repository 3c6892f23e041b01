//! One server for every name, with and without TLS, and the documents that find it.

use std::net::SocketAddr;

use crate::certificates::Identity;
use crate::origin::{Origin, OriginConfig, Received};
use crate::reply::Reply;
use crate::world::World;

/// One server for every name: without TLS for ports 80 and 8080, with TLS for port 443.
#[derive(Debug)]
pub struct Site {
    /// The one without TLS.
    pub plain: Origin,
    /// The one with TLS.
    pub tls: Origin,
}

impl Site {
    /// Answers with `origin: ` and the host that it was asked for.
    pub fn start(world: &World) -> Self {
        Self::answering(world, |request| Reply::text(format!("origin: {}", request.authority)))
    }

    /// Answers as the handler says.
    pub fn answering(
        world: &World,
        handler: impl Fn(&Received) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let plain = OriginConfig { identity: Identity::Plain, ..OriginConfig::default() };
        Self { plain: Origin::start_with(world, plain, handler.clone()), tls: Origin::start(world, handler) }
    }

    /// A document with this text, by which these names are found here: refused ones too, so that a
    /// gate which let them through would be seen to. Goes on with keys of `[upstream]`.
    pub fn policy(&self, world: &World, text: &str, names: &[&str]) -> String {
        let places =
            [("80", self.plain.address()), ("8080", self.plain.address()), ("443", self.tls.address())];
        let resolve: Vec<(String, SocketAddr)> = names
            .iter()
            .flat_map(|name| places.map(|(port, address)| (format!("{name}:{port}"), address)))
            .collect();
        let resolve: Vec<_> = resolve.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        format!("version = 1\n{text}\n{}", world.upstream(&resolve))
    }

    /// What reached either of them: in the order of arrival at the one without TLS, then at the other.
    pub fn requests(&self) -> Vec<Received> {
        [self.plain.requests(), self.tls.requests()].concat()
    }

    /// Fails the test if anybody so much as connected to either of them.
    #[track_caller]
    pub fn assert_untouched(&self) {
        self.plain.assert_untouched();
        self.tls.assert_untouched();
    }
}
