//! Package installers, from real registries that demand a token.

use std::net::SocketAddr;

use e2e::{Nginx, ORIGIN_IPV4, Outcome, World, assert_token_absent, new_token, with_token_scan};

const POLICY: &str = r#"
version = 1

[secrets.REGISTRY_TOKEN]
source = "env://REGISTRY_TOKEN"
hosts = ["@HOST@"]

[[rules]]
name = "registry"
host = "@HOST@"
set_headers = { authorization = "Bearer ${secret:REGISTRY_TOKEN}" }

"#;

/// Where the registries themselves listen, in plain HTTP; nginx stands before them.
const BEHIND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ORIGIN_IPV4), 8080);

/// Runs an installer behind a gate that has the token which nginx demands.
fn install(world: &World, host: &str, script: &str) -> Outcome {
    let token = new_token();
    let locations = format!(
        r#"
    location / {{
      if ($http_authorization != "Bearer {token}") {{ return 401; }}
      proxy_pass http://{BEHIND};
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-Proto https;
      proxy_set_header Authorization "";
    }}"#
    );
    let nginx = Nginx::start(world, host, 8443, &locations);
    let upstream = world.upstream(&[(&format!("{host}:443"), nginx.address())]);
    let policy = format!("{}{upstream}", POLICY.replace("@HOST@", host));
    let command = with_token_scan(world, &[&token], ["sh", "-ec", script]);
    let outcome = world.gate(&policy).env("REGISTRY_TOKEN", &token).job(command).deadline(DEADLINE).run();
    outcome.assert_success();
    assert_token_absent(world, &outcome, &[&token]);
    let requests = nginx.requests();
    assert!(requests.len() >= 2, "an index and a package: {requests:#?}");
    for request in &requests {
        assert!(request.ends_with(&format!(" 200 Bearer {token}")), "{requests:#?}");
    }
    let allowed = outcome.lines("exchange").into_iter().filter(|line| line["host"] == host);
    for line in allowed.clone() {
        assert_eq!((&line["verdict"], &line["rule"]), (&"allowed".into(), &"registry".into()), "{line}");
    }
    assert_eq!(allowed.count(), requests.len(), "{outcome:?}");
    outcome
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(150);

#[test]
fn pip_install_gets_its_credential() {
    let world = World::new("pip");
    let packages = world.path("packages").display().to_string();
    let make = world.root_job(world.origin_namespace(), ["/usr/bin/python3", "-c", MAKE_WHEEL, &packages]);
    make.run().assert_success();
    let (server, host, port) =
        (world.test_dependency("py/bin/pypi-server"), BEHIND.ip().to_string(), BEHIND.port().to_string());
    let command = [server.as_str(), "run", "--disable-fallback", "-i", &host, "-p", &port, &packages];
    let _registry = world.root_job(world.origin_namespace(), command).spawn();
    world.wait_for_listener(BEHIND);
    let outcome = install(
        &world,
        "pypi.test",
        "/usr/bin/python3 -m venv venv
         venv/bin/pip install -q --disable-pip-version-check --index-url https://pypi.test/simple/ gatecheck
         venv/bin/python -c 'import gatecheck; print(gatecheck.GREETING)'",
    );
    outcome.assert_stdout("hello from a wheel\n");
}

#[test]
fn npm_install_gets_its_credential() {
    let world = World::new("npm");
    world.file(
        "verdaccio/config.yaml",
        VERDACCIO.replace("@FOLDER@", &world.path("verdaccio").display().to_string()),
    );
    let (server, config) =
        (world.test_dependency("npm/node_modules/.bin/verdaccio"), world.path("verdaccio/config.yaml"));
    let command =
        [server, "-c".to_owned(), config.display().to_string(), "-l".to_owned(), BEHIND.to_string()];
    let _registry =
        world.root_job(world.origin_namespace(), command).env("HOME", world.path("verdaccio")).spawn();
    world.wait_for_listener(BEHIND);
    publish(&world);
    let outcome = install(
        &world,
        "npm.test",
        "mkdir project && cd project
         npm install --silent --no-audit --no-fund --no-update-notifier --registry https://npm.test/ gatecheck >&2
         node -p 'require(\"gatecheck\")'",
    );
    outcome.assert_stdout("hello from a package\n");
}

/// Publishes a package at the registry itself, as its author would.
fn publish(world: &World) {
    let manifest = r#"{ "name": "gatecheck", "version": "1.0.0", "main": "index.js" }"#;
    world.file("package/package.json", manifest);
    world.file("package/index.js", "module.exports = 'hello from a package';\n");
    // The registry lets everybody publish; npm wants to see some token nevertheless.
    world.file("package/.npmrc", format!("//{BEHIND}/:_authToken=any\n"));
    let registry = format!("http://{BEHIND}/");
    let command = ["npm", "publish", "--no-update-notifier", "--registry", &registry];
    let job = world.root_job(world.origin_namespace(), command).folder(world.path("package"));
    job.env("HOME", world.path("verdaccio")).run().assert_success();
}

const VERDACCIO: &str = "
storage: @FOLDER@/storage
max_body_size: 10mb
web: { enable: false }
auth: { htpasswd: { file: @FOLDER@/htpasswd } }
packages:
  '**': { access: $all, publish: $all }
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
