//! `registry-guard`, with npm, pip and cargo against registries that anybody may change.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use e2e::{
    Nginx, ORIGIN_IPV4, Origin, Outcome, Received, Reply, World, npm_registry, python_registry, sha256_hex,
};

use crate::support::{document, gate, handler_lines};

const PLUGIN: &str = "registry-guard";
const DEADLINE: Duration = Duration::from_secs(150);

/// Where registries listen, in plain HTTP; nginx stands before them.
const BEHIND: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_IPV4), 8080);

fn front<'world>(world: &'world World, host: &str) -> Nginx<'world> {
    let locations = format!(
        "
    location / {{
      proxy_pass http://{BEHIND};
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-Proto https;
    }}"
    );
    Nginx::start(world, host, 8443, &locations)
}

/// Nothing but reading arrived, and no credential with it.
#[track_caller]
fn assert_only_read(nginx: &Nginx<'_>, posts: &[&str]) {
    let requests = nginx.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        let is_read = ["GET ", "HEAD "].iter().any(|method| request.starts_with(method));
        let is_known = posts.iter().any(|post| request.starts_with(&format!("POST {post} ")));
        assert!((is_read || is_known) && request.ends_with(" -"), "{request}");
    }
}

#[track_caller]
fn assert_logged(outcome: &Outcome, messages: &[&str]) {
    let lines = handler_lines(&outcome.log);
    for message in messages {
        assert!(lines.iter().any(|line| line["message"] == *message), "{message}: {outcome:?}");
    }
}

#[test]
fn npm_installs_and_publishes_nothing() {
    let world = World::new("guard-npm");
    let _registry = npm_registry(&world, BEHIND);
    let nginx = front(&world, "registry.npmjs.org");
    let script = r#"
export npm_config_update_notifier=false npm_config_fund=false
echo '//registry.npmjs.org/:_authToken=stolen' >.npmrc
mkdir project && cd project
npm install --silent --audit=true gatecheck >&2 && node -p 'require("gatecheck")'
npm audit >&2
cd node_modules/gatecheck
npm unpublish --force gatecheck@1.0.0 2>&1; npm deprecate gatecheck@1.0.0 no 2>&1
npm dist-tag add gatecheck@1.0.0 old 2>&1; npm owner add eve gatecheck 2>&1; npm token list 2>&1
npm whoami 2>&1
cd ../.. && echo '{ "name": "mine", "version": "1.0.0" }' >package.json && npm publish 2>&1
curl -sS -X PUT -d '{}' https://registry.npmjs.org/-/user/org.couchdb.user:eve
"#;
    let hosts = [("registry.npmjs.org", nginx.address())];
    let gate = gate(&world, PLUGIN, &document(PLUGIN, &[]), &hosts);
    let outcome = gate.job(["sh", "-c", script]).deadline(DEADLINE).run();
    assert!(outcome.stdout.starts_with("hello from a package\n"), "{outcome:?}");
    let only = "is not allowed here: npm is open for installing only";
    for what in ["publishing, or changing a package", "unpublishing", "changing tags or access", "logging in"]
    {
        assert!(outcome.stdout.contains(&format!("sluicegate: {what} {only}")), "{what}: {outcome:?}");
    }
    assert!(outcome.stdout.contains("403 Forbidden - PUT https://registry.npmjs.org/mine"), "{outcome:?}");
    assert_logged(
        &outcome,
        &[
            "refused: publishing, or changing a package",
            "refused: changing tags or access",
            "refused: looking at accounts and tokens",
            "refused: logging in",
        ],
    );
    let audit = "/-/npm/v1/security/advisories/bulk";
    assert!(nginx.requests().iter().any(|request| request.contains(audit)), "{outcome:?}");
    assert_only_read(&nginx, &[audit, "/-/npm/v1/security/audits/quick"]);
}

#[test]
fn pip_installs_and_uploads_nothing() {
    let world = World::new("guard-pip");
    // Anybody may do anything there.
    let _registry = python_registry(&world, BEHIND, &["-P", ".", "-a", "."]);
    let nginx = front(&world, "pypi.org");
    let script = r#"
/usr/bin/python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check gatecheck &&
    venv/bin/python -c 'import gatecheck; print(gatecheck.GREETING)'
for url in https://upload.pypi.org/legacy/ https://pypi.org/ https://pypi.org/pypi; do
    curl -sS -u __token__:stolen -F :action=file_upload -F content=@venv/bin/pip -w '\n%{http_code}\n' $url
done
"#;
    let hosts = [("pypi.org", nginx.address()), ("upload.pypi.org", nginx.address())];
    let gate = gate(&world, PLUGIN, &document(PLUGIN, &[]), &hosts);
    let outcome = gate.job(["sh", "-ec", script]).deadline(DEADLINE).run();
    outcome.assert_success();
    assert!(outcome.stdout.starts_with("hello from a wheel\n"), "{outcome:?}");
    let why = "sluicegate: publishing is not allowed here: PyPI is open for installing only";
    assert_eq!(outcome.stdout.matches(why).count(), 6, "twice in each answer: {outcome:?}");
    assert_eq!(outcome.stdout.lines().filter(|line| *line == "403").count(), 3, "{outcome:?}");
    assert_only_read(&nginx, &[]);
}

/// The three hosts of crates.io, with one crate; everything is taken that is sent.
fn crates(world: &World) -> Origin {
    world.file("gatecheck-1.0.0/Cargo.toml", "[package]\nname = \"gatecheck\"\nversion = \"1.0.0\"\n");
    world.file("gatecheck-1.0.0/src/lib.rs", "");
    let pack = ["tar", "-czf", "gatecheck.crate", "gatecheck-1.0.0"];
    world.root_job(world.origin_namespace(), pack).folder(world.path("")).run().assert_success();
    let content = std::fs::read(world.path("gatecheck.crate")).unwrap();
    let index = format!(
        r#"{{"name":"gatecheck","vers":"1.0.0","deps":[],"cksum":"{}","features":{{}},"yanked":false}}"#,
        sha256_hex(&content)
    );
    let config = r#"{"dl":"https://static.crates.io/crates","api":"https://crates.io"}"#;
    Origin::start(world, move |request: &Received| {
        match (request.authority.as_str(), request.path.as_str()) {
            ("index.crates.io", "/config.json") => Reply::text(config),
            ("index.crates.io", "/ga/te/gatecheck") => Reply::text(format!("{index}\n")),
            ("index.crates.io", _) => Reply::new(404, ""),
            ("static.crates.io", _) => Reply::new(200, content.clone()),
            _ => Reply::text(r#"{"ok":true,"msg":"taken","warnings":{}}"#),
        }
    })
}

#[test]
fn cargo_fetches_and_publishes_nothing() {
    let world = World::new("guard-cargo");
    let origin = crates(&world);
    let hosts = ["index.crates.io", "static.crates.io", "crates.io"].map(|host| (host, origin.address()));
    let gate = gate(&world, PLUGIN, &document(PLUGIN, &[]), &hosts).attach();
    let manifest = "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2021\"\nlicense = \"MIT\"\n\
                    description = \"mine\"\n[dependencies]\ngatecheck = \"1\"\n";
    world.file("mine/Cargo.toml", manifest);
    world.file("mine/src/lib.rs", "");
    // The toolchain is in a folder that only its owner may enter.
    let cargo = Path::new(env!("CARGO"));
    let run = |arguments: &[&str]| {
        let line = [&[cargo.to_str().unwrap()], arguments].concat();
        let job = world.root_job(gate.namespace(), line).folder(world.path("mine")).deadline(DEADLINE);
        job.env("CARGO_HOME", world.path("cargo-home"))
            .env("RUSTC", cargo.with_file_name("rustc"))
            .env("CARGO_HTTP_CAINFO", gate.ca_file())
            .env("CARGO_REGISTRY_TOKEN", "stolen")
            .env("CARGO_NET_RETRY", "0")
            .run()
    };
    run(&["fetch"]).assert_success();
    assert!(world.path("mine/Cargo.lock").exists());
    for (arguments, what) in [
        (&["publish", "--no-verify", "--allow-dirty"][..], "publishing"),
        (&["yank", "gatecheck@1.0.0"], "yanking"),
        (&["yank", "--undo", "gatecheck@1.0.0"], "yanking"),
        (&["owner", "--add", "eve", "gatecheck"], "changing owners"),
    ] {
        let outcome = run(arguments);
        let why = format!("sluicegate: {what} is not allowed here: crates.io is open for installing only");
        assert!(!outcome.status.success() && outcome.stderr.contains(&why), "{arguments:?}: {outcome:?}");
    }
    let requests = origin.requests();
    assert!(requests.iter().any(|request| request.authority == "static.crates.io"), "{requests:#?}");
    for request in requests {
        assert_eq!(
            (request.method.as_str(), request.header("authorization").len()),
            ("GET", 0),
            "{request:#?}"
        );
    }
}
