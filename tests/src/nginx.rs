//! nginx as a TLS front for servers that speak plain HTTP, and the credentials that it saw.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::job::Running;
use crate::world::{ORIGIN_IPV4, World};

/// An nginx in the origin namespace, with TLS by the test authority.
#[derive(Debug)]
pub struct Nginx<'world> {
    address: SocketAddr,
    access_log: PathBuf,
    _running: Running<'world>,
}

impl<'world> Nginx<'world> {
    /// Starts one for `name` on a port of [`ORIGIN_IPV4`]; `locations` is what stands in its `server`
    /// block, and may use the paths of this world.
    pub fn start(world: &'world World, name: &str, port: u16, locations: &str) -> Self {
        Self::start_at(world, name, SocketAddr::new(ORIGIN_IPV4.into(), port), locations)
    }

    /// Starts one at an address of the origin namespace.
    pub fn start_at(world: &'world World, name: &str, address: SocketAddr, locations: &str) -> Self {
        let folder = world.path(&format!("nginx-{name}"));
        fs::create_dir_all(&folder).expect("make a folder");
        let (certificate, key) = world.certificate_files(&[name]);
        let config = CONFIG
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@ADDRESS@", &address.to_string())
            .replace("@CERTIFICATE@", &certificate.display().to_string())
            .replace("@KEY@", &key.display().to_string())
            .replace("@LOCATIONS@", locations);
        let config = world.file(&format!("nginx-{name}/nginx.conf"), config).display().to_string();
        let prefix = format!("{}/", folder.display());
        let command = ["nginx", "-p", &prefix, "-c", &config, "-e", "stderr"];
        let running = world.root_job(world.origin_namespace(), command).spawn();
        world.wait_for_listener(address);
        Self { address, access_log: folder.join("access.log"), _running: running }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One line a request: `METHOD URI STATUS AUTHORIZATION`.
    pub fn requests(&self) -> Vec<String> {
        fs::read_to_string(&self.access_log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

const CONFIG: &str = r#"
daemon off;
user root;
worker_processes 1;
pid @FOLDER@/nginx.pid;
events { worker_connections 256; }
http {
  log_format seen '$request_method $request_uri $status $http_authorization';
  access_log @FOLDER@/access.log seen;
  client_body_temp_path @FOLDER@/body;
  proxy_temp_path @FOLDER@/proxy;
  fastcgi_temp_path @FOLDER@/fastcgi;
  uwsgi_temp_path @FOLDER@/uwsgi;
  scgi_temp_path @FOLDER@/scgi;
  client_max_body_size 0;
  server {
    listen @ADDRESS@ ssl http2;
    ssl_certificate @CERTIFICATE@;
    ssl_certificate_key @KEY@;
    @LOCATIONS@
  }
}
"#;
