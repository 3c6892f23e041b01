//! git over HTTPS, from and to a real `git http-backend` that demands a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{GitBackend, Nginx, Outcome, World, assert_token_absent, new_token, with_token_scan};

const POLICY: &str = r#"
version = 1

[secrets.GIT_TOKEN]
source = "file://@SECRET@"
hosts = ["git.test"]

[[rules]]
name = "git"
host = "git.test"
basic_auth = { username = "agent", password = "${secret:GIT_TOKEN}" }

"#;

const IDENTITY: &str = "-c user.name=Agent -c user.email=agent@example.test -c init.defaultBranch=main";

/// A repository with one commit, behind nginx, for whoever shows the token.
struct GitServer<'world> {
    world: &'world World,
    backend: GitBackend<'world>,
    nginx: Nginx<'world>,
    token: String,
    basic: String,
}

impl<'world> GitServer<'world> {
    fn start(world: &'world World) -> Self {
        let token = new_token();
        let basic = BASE64.encode(format!("agent:{token}"));
        let backend = GitBackend::start(world);
        let location = backend.location(&format!(
            r#"add_header WWW-Authenticate 'Basic realm="git"' always;
      if ($http_authorization != "Basic {basic}") {{ return 401; }}"#
        ));
        let nginx = Nginx::start(world, "git.test", 8443, &location);
        Self { world, backend, nginx, token, basic }
    }

    /// A shell script of the workload's, behind a gate that has the token.
    fn run(&self, script: &str) -> Outcome {
        let secret = self.world.secret_file("git-token", &self.token).display().to_string();
        let upstream = self.world.upstream(&[("git.test:443", self.nginx.address())]);
        let policy = format!("{}{upstream}", POLICY.replace("@SECRET@", &secret));
        let command = with_token_scan(self.world, &[&self.token, &self.basic], ["sh", "-ec", script]);
        let outcome = self.world.gate(&policy).run(command);
        outcome.assert_success();
        assert_token_absent(self.world, &outcome, &[&self.token, &self.basic]);
        let requests = self.nginx.requests();
        assert!(
            !requests.is_empty() && requests.len() == outcome.lines("exchange").len(),
            "{requests:#?} {outcome:?}"
        );
        for (request, line) in requests.iter().zip(outcome.lines("exchange")) {
            assert!(request.ends_with(&format!(" 200 Basic {}", self.basic)), "{requests:#?}");
            assert_eq!((&line["verdict"], &line["rule"]), (&"allowed".into(), &"git".into()), "{line}");
            assert_eq!(line["credentials"], serde_json::json!(["GIT_TOKEN"]), "{line}");
        }
        outcome
    }
}

#[test]
fn git_server_demands_the_token() {
    let world = World::new("git-demands");
    let server = GitServer::start(&world);
    let ca = world.origin_ca_file().display().to_string();
    let connect = format!("::{}", server.nginx.address());
    let url = "https://git.test/project.git/info/refs?service=git-upload-pack";
    let command = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--cacert",
        &ca,
        "--connect-to",
        &connect,
        url,
    ];
    world.job(world.gate_namespace(), command).run().assert_stdout("401");
}

#[test]
fn git_clone_gets_its_credential() {
    let world = World::new("git-clone");
    let server = GitServer::start(&world);
    server.run("git clone -q https://git.test/project.git work && cat work/README").assert_stdout("hello\n");
}

#[test]
fn git_push_gets_its_credential() {
    let world = World::new("git-push");
    let server = GitServer::start(&world);
    // More than git buffers, so that it is sent in chunks.
    let script = format!(
        "git clone -q https://git.test/project.git work && cd work \
         && head -c 3000000 /dev/urandom >large && git add large \
         && git {IDENTITY} commit -q -m 'Large file' && git push -q origin HEAD:main && git rev-parse HEAD"
    );
    let outcome = server.run(&script);
    let repository = server.backend.repository().display().to_string();
    let arrived =
        world.root_job(world.origin_namespace(), ["git", "-C", &repository, "rev-parse", "main"]).run();
    arrived.assert_success().assert_stdout(&outcome.stdout);
    let pushed = server
        .nginx
        .requests()
        .iter()
        .filter(|line| line.starts_with("POST") && line.contains("receive-pack"))
        .count();
    assert!(pushed > 0, "{:#?}", server.nginx.requests());
}
