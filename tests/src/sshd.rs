//! A real sshd with a key of its own, and a client's flags that trust it and nobody else.

use std::fs;
use std::net::SocketAddr;

use crate::job::Running;
use crate::world::World;

/// An sshd in the origin namespace that lets root in by a key of this world.
#[derive(Debug)]
pub struct Sshd<'world> {
    flags: Vec<String>,
    _running: Running<'world>,
}

impl<'world> Sshd<'world> {
    /// Starts one for `name` at an address of the origin namespace.
    pub fn start(world: &'world World, name: &str, address: SocketAddr) -> Self {
        let keygen = |file: &str| {
            let path = world.path(file).display().to_string();
            let line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path];
            world.root_job(world.origin_namespace(), line).run().assert_success();
            path
        };
        let read = |path: &str| fs::read_to_string(path).expect("a key that was just made");
        let (host_key, client_key) = (keygen("host_key"), keygen("client_key"));
        let authorized = world.file("authorized_keys", read(&format!("{client_key}.pub")));
        let known = world.file("known_hosts", format!("{name} {}", read(&format!("{host_key}.pub"))));
        let config = format!(
            "ListenAddress {address}\nHostKey {host_key}\nAuthorizedKeysFile {}\nStrictModes no\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\nUsePAM no\nPidFile none\n\
             Subsystem sftp internal-sftp\n",
            authorized.display()
        );
        let config = world.file("sshd_config", config).display().to_string();
        // sshd insists on this folder, which is made where the package's service starts.
        fs::create_dir_all("/run/sshd").expect("make a folder");
        let running =
            world.root_job(world.origin_namespace(), ["/usr/sbin/sshd", "-D", "-e", "-f", &config]).spawn();
        world.wait_for_listener(address);
        let options = [
            format!("IdentityFile={client_key}"),
            format!("UserKnownHostsFile={}", known.display()),
            String::from("GlobalKnownHostsFile=/dev/null"),
            String::from("StrictHostKeyChecking=yes"),
            String::from("BatchMode=yes"),
        ];
        let flags = options.into_iter().flat_map(|option| [String::from("-o"), option]);
        let flags = [String::from("-F"), String::from("none")].into_iter().chain(flags).collect();
        Self { flags, _running: running }
    }

    /// What `ssh` and `scp` are told so that they let the server in and the server lets them in. They are
    /// run by root: ssh works for nobody who has no name.
    pub fn flags(&self) -> Vec<&str> {
        self.flags.iter().map(String::as_str).collect()
    }
}
