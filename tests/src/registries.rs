//! Real package registries, in plain HTTP and with one package each, for an nginx to stand before.

use std::net::SocketAddr;

use crate::job::Running;
use crate::world::World;

/// A pypiserver in the origin namespace with the wheel `gatecheck`, whose `GREETING` is `hello from a wheel`.
/// It also takes `flags`.
pub fn python_registry<'world>(world: &'world World, address: SocketAddr, flags: &[&str]) -> Running<'world> {
    let packages = world.path("packages").display().to_string();
    let make = world.root_job(world.origin_namespace(), ["/usr/bin/python3", "-c", MAKE_WHEEL, &packages]);
    make.run().assert_success();
    let server = world.test_dependency("py/bin/pypi-server");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let line = [&server, "run", "--disable-fallback", "-i", &host, "-p", &port];
    let line = [&line, flags, &[&packages]].concat();
    let registry = world.root_job(world.origin_namespace(), line).spawn();
    world.wait_for_listener(address);
    registry
}

/// A verdaccio in the origin namespace with the package `gatecheck`, which is `hello from a package`.
pub fn npm_registry(world: &World, address: SocketAddr) -> Running<'_> {
    let folder = world.path("verdaccio").display().to_string();
    let config = world.file("verdaccio/config.yaml", VERDACCIO.replace("@FOLDER@", &folder));
    let server = world.test_dependency("npm/node_modules/.bin/verdaccio");
    let line = [server, "-c".to_owned(), config.display().to_string(), "-l".to_owned(), address.to_string()];
    let registry = world.root_job(world.origin_namespace(), line).env("HOME", &folder).spawn();
    world.wait_for_listener(address);
    // As its author would, at the registry itself.
    let manifest = r#"{ "name": "gatecheck", "version": "1.0.0", "main": "index.js" }"#;
    world.file("package/package.json", manifest);
    world.file("package/index.js", "module.exports = 'hello from a package';\n");
    // The registry lets everybody publish; npm wants to see some token nevertheless.
    world.file("package/.npmrc", format!("//{address}/:_authToken=any\n"));
    let publish = ["npm", "publish", "--no-update-notifier", "--registry", &format!("http://{address}/")];
    let publish = world.root_job(world.origin_namespace(), publish).folder(world.path("package"));
    publish.env("HOME", &folder).run().assert_success();
    registry
}

const VERDACCIO: &str = "
storage: @FOLDER@/storage
max_body_size: 10mb
web: { enable: false }
auth: { htpasswd: { file: @FOLDER@/htpasswd } }
packages:
  '**': { access: $all, publish: $all, unpublish: $all }
log: { type: stdout, format: json, level: warn }
";

/// A wheel is a zip file with three files of metadata.
const MAKE_WHEEL: &str = r#"
import os, sys, zipfile
folder, info = sys.argv[1], "gatecheck-1.0.0.dist-info/"
os.makedirs(folder)
with zipfile.ZipFile(f"{folder}/gatecheck-1.0.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("gatecheck.py", "GREETING = 'hello from a wheel'\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: gatecheck\nVersion: 1.0.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", f"gatecheck.py,,\n{info}METADATA,,\n{info}WHEEL,,\n{info}RECORD,,\n")
"#;
