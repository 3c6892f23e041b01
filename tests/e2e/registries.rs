//! Package installers, from real registries that demand a token.

use std::net::SocketAddr;

use e2e::{
    Nginx, ORIGIN_IPV4, Outcome, World, assert_token_absent, new_token, npm_registry, python_registry,
    with_token_scan,
};

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
    let _registry = python_registry(&world, BEHIND, &[]);
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
    let _registry = npm_registry(&world, BEHIND);
    let outcome = install(
        &world,
        "npm.test",
        "mkdir project && cd project
         npm install --silent --no-audit --no-fund --no-update-notifier --registry https://npm.test/ gatecheck >&2
         node -p 'require(\"gatecheck\")'",
    );
    outcome.assert_stdout("hello from a package\n");
}
