//! A real PostgreSQL with TLS of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{Gid, Uid, chown};

use crate::job::Running;
use crate::world::{World, wait_until};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Somebody who is not root, for a server that refuses to be.
const SERVER_USER: u32 = 65_534;

/// A PostgreSQL in the origin namespace that takes the user `app` over TLS, and nobody without.
#[derive(Debug)]
pub struct Postgres<'world> {
    _running: Running<'world>,
}

impl<'world> Postgres<'world> {
    /// Starts one at an address of the origin namespace, with a certificate for `name`; returns once it
    /// takes connections.
    pub fn start(world: &'world World, name: &str, address: SocketAddr) -> Self {
        let folder = world.path("postgres");
        fs::create_dir(&folder).expect("make a folder");
        give_to_server(&folder);
        let as_user = |command: &[&str]| {
            let user = SERVER_USER.to_string();
            let line = [&["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"], command].concat();
            world.root_job(world.origin_namespace(), line)
        };
        let (data, sockets) = (folder.join("data").display().to_string(), folder.display().to_string());
        let initdb = format!("{PROGRAMS}/initdb");
        as_user(&[&initdb, "-D", &data, "-U", "app", "--auth=trust", "--no-sync"]).run().assert_success();
        let (certificate, key) = world.certificate_files(&[name]);
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = folder.join("data").join(to);
            fs::copy(from, &to).expect("copy a file");
            give_to_server(&to);
        }
        fs::write(folder.join("data/pg_hba.conf"), "hostssl all all 0.0.0.0/0 trust\n")
            .expect("write a file");
        let (server, port) = (format!("{PROGRAMS}/postgres"), address.port().to_string());
        let listen = format!("listen_addresses={}", address.ip());
        let settings = ["-c", &listen, "-c", "ssl=on", "-c", "fsync=off"];
        let line = [&[server.as_str(), "-D", &data, "-k", &sockets, "-p", &port], &settings[..]].concat();
        let running = as_user(&line).spawn();
        // The server listens before it takes connections.
        world.wait_for_listener(address);
        let host = address.ip().to_string();
        wait_until("postgres", Duration::from_secs(30), || {
            as_user(&["pg_isready", "-q", "-h", &host, "-p", &port]).run().code() == 0
        });
        Self { _running: running }
    }
}

fn give_to_server(path: &Path) {
    chown(path, Some(Uid::from_raw(SERVER_USER)), Some(Gid::from_raw(SERVER_USER))).expect("set the owner");
}
