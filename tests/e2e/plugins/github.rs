//! `github-guard`, with git against a real `git http-backend`, and curl against an API.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use e2e::{
    Gate, GitBackend, Nginx, Origin, Outcome, Reply, World, assert_token_absent, new_token, with_token_scan,
};
use serde_json::json;

use crate::support::{document, gate, handler_lines};

const PLUGIN: &str = "github-guard";
const IDENTITY: &str = "-c user.name=Agent -c user.email=agent@example.test -c init.defaultBranch=main";
/// Each with one commit on `main` and a branch `agent/old`.
const REPOSITORIES: [&str; 3] = ["octo/site", "octo/docs", "other/secret"];

/// What answers for github.com: repositories for whoever shows the token.
struct Github<'world> {
    world: &'world World,
    nginx: Nginx<'world>,
    token: String,
    basic: String,
    _backend: GitBackend<'world>,
}

impl<'world> Github<'world> {
    fn start(world: &'world World) -> Self {
        let token = new_token();
        let basic = BASE64.encode(format!("x-access-token:{token}"));
        let projects = world.path("projects");
        let shell = |script: &str| {
            world.root_job(world.origin_namespace(), ["sh", "-ec", script]).folder(world.path("")).run()
        };
        let seed = format!(
            "git {IDENTITY} init -q seed && cd seed && echo hello >README && git add README
             git {IDENTITY} commit -q -m 'First commit'"
        );
        shell(&seed).assert_success();
        for repository in REPOSITORIES {
            let bare = projects.join(format!("{repository}.git"));
            let bare = bare.display();
            shell(&format!(
                "git {IDENTITY} init -q --bare {bare} && git -C {bare} config http.receivepack true
                 git -C {bare} config receive.advertisePushOptions true
                 git -C seed push -q {bare} main main:agent/old"
            ))
            .assert_success();
        }
        let backend = GitBackend::serve(world, projects);
        let locations =
            backend.location(&format!("if ($http_authorization != \"Basic {basic}\") {{ return 401; }}"));
        let nginx = Nginx::start(world, "github.com", 8443, &locations);
        Self { world, nginx, token, basic, _backend: backend }
    }

    fn gate(&self) -> Gate<'world> {
        let hosts = [("github.com", self.nginx.address())];
        gate(self.world, PLUGIN, &document(PLUGIN, &[]), &hosts).env("GITHUB_TOKEN", &self.token)
    }

    /// A shell script of the workload's, which prints what it likes.
    fn run(&self, script: &str) -> Outcome {
        let needles = [self.token.as_str(), &self.basic];
        let script = format!("git() {{ command git {IDENTITY} \"$@\"; }}\n{script}");
        let outcome = self.gate().run(with_token_scan(self.world, &needles, ["sh", "-c", &script]));
        assert_token_absent(self.world, &outcome, &needles);
        outcome
    }

    /// The refs of a repository, as its server has them.
    fn refs(&self, repository: &str) -> Vec<String> {
        let path: PathBuf = self.world.path("projects").join(format!("{repository}.git"));
        let path = path.display().to_string();
        let line = ["git", "-C", &path, "for-each-ref", "--format=%(refname)"];
        let listed = self.world.root_job(self.world.origin_namespace(), line).run();
        listed.assert_success().stdout.lines().map(str::to_owned).collect()
    }
}

const CLONE: &str = "set -e
git clone -q https://github.com/octo/site.git work
cd work
git checkout -q -b topic
echo more >>README
git commit -q -a -m 'Second commit'
set +e
";

#[test]
fn repositories_that_are_named_are_read() {
    let world = World::new("github-read");
    let github = Github::start(&world);
    let outcome = github.run(
        "git clone -q https://github.com/octo/docs.git && cat docs/README
         git clone -q https://github.com/octo/site site && cat site/README
         cd docs && git fetch -q origin && git -c protocol.version=0 ls-remote -q origin | wc -l",
    );
    outcome.assert_success().assert_stdout("hello\nhello\n3\n");
    let outcome = github.run("git clone -q https://github.com/other/secret.git");
    let why = "remote: sluicegate: other/secret is not a repository that may be read";
    assert!(outcome.stderr.contains(why), "{outcome:?}");
    let requests = github.nginx.requests();
    assert!(requests.iter().all(|request| !request.contains("other/secret")), "{requests:#?}");
    assert!(requests.iter().all(|request| request.contains(&github.basic)), "{requests:#?}");
}

#[test]
fn a_push_to_an_open_branch_arrives() {
    let world = World::new("github-push");
    let github = Github::start(&world);
    // More than git buffers, so that it is sent in chunks, after a question without anything in it.
    let outcome = github.run(&format!(
        "{CLONE}head -c 3000000 /dev/urandom >large && git add large && git commit -q -m Large
         git push -q --atomic -o option=1 origin topic:refs/heads/agent/a topic:refs/heads/agent/b/c
         git push -q origin HEAD~1:refs/heads/agent/d"
    ));
    outcome.assert_success();
    let refs = github.refs("octo/site");
    assert_eq!(
        refs,
        [
            "refs/heads/agent/a",
            "refs/heads/agent/b/c",
            "refs/heads/agent/d",
            "refs/heads/agent/old",
            "refs/heads/main"
        ],
        "{outcome:?}"
    );
    let lines = handler_lines(&outcome.log);
    let pushed = lines.iter().find(|line| line["message"] == "push").unwrap();
    let fields = json!({ "repository": "octo/site", "refs": ["refs/heads/agent/a", "refs/heads/agent/b/c"] });
    assert_eq!(pushed["fields"], fields, "{outcome:?}");
}

#[test]
fn a_push_elsewhere_is_refused_in_words_that_git_shows() {
    let world = World::new("github-refuse");
    let github = Github::start(&world);
    let outcome = github.run(&format!(
        "{CLONE}git push origin topic:main 2>&1; echo $?
         git push origin topic:agent/new topic:main 2>&1; echo $?
         git push origin :agent/old 2>&1; echo $?
         git push -f origin topic:refs/tags/v1 2>&1; echo $?
         git push https://github.com/octo/docs.git topic:agent/new 2>&1; echo $?
         head -c 3000000 /dev/urandom >large && git add large && git commit -q -m Large
         git push origin topic:main 2>&1; echo $?
         head -c 20000000 /dev/urandom >huge && git add huge && git commit -q -m Huge
         git push origin topic:main 2>&1; echo $?
         git -c http.version=HTTP/1.1 push origin topic:main 2>&1; echo $?"
    ));
    let said = &outcome.stdout;
    for why in [
        " ! [remote rejected] topic -> main (only refs/heads/agent/** may be pushed)",
        " ! [remote rejected] topic -> agent/new (another ref was refused)",
        " ! [remote rejected] agent/old (refs are not deleted here)",
        " ! [remote rejected] topic -> v1 (only refs/heads/agent/** may be pushed)",
        "remote: sluicegate: octo/docs is not a repository that may be pushed to",
    ] {
        assert!(said.contains(why), "{why}\n{outcome:?}");
    }
    assert_eq!(said.matches("topic -> main (only").count(), 3, "a large one too: {outcome:?}");
    assert_eq!(said.lines().filter(|line| *line == "1").count(), 7, "{outcome:?}");
    assert_eq!(github.refs("octo/site"), ["refs/heads/agent/old", "refs/heads/main"]);
    assert_eq!(github.refs("octo/docs"), ["refs/heads/agent/old", "refs/heads/main"]);
    let requests = github.nginx.requests();
    let pushes = requests.iter().filter(|request| request.starts_with("POST") && request.contains("receive"));
    // The large ones ask first whether they may.
    assert_eq!(pushes.count(), 3, "{requests:#?}");
}

#[test]
fn the_api_is_open_as_far_as_it_is_listed() {
    let world = World::new("github-api");
    let origin = Origin::start(&world, |_| Reply::text("api"));
    let token = new_token();
    let hosts = ["github.com", "api.github.com", "uploads.github.com", "codeload.github.com"];
    let hosts = hosts.map(|host| (host, origin.address()));
    let gate = gate(&world, PLUGIN, &document(PLUGIN, &[]), &hosts).env("GITHUB_TOKEN", &token).attach();
    let status = |method: &str, url: &str| {
        let line =
            ["curl", "-sS", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, url];
        gate.run(line).assert_success().stdout.clone()
    };
    let passed = [
        ("GET", "https://api.github.com/repos/octo/docs/issues?state=open"),
        ("GET", "https://api.github.com/user"),
        ("POST", "https://api.github.com/repos/octo/site/pulls"),
        ("GET", "https://codeload.github.com/octo/site/tar.gz/refs/heads/main"),
    ];
    for (method, url) in passed {
        assert_eq!(status(method, url), "200", "{method} {url}");
    }
    for (method, url) in [
        ("GET", "https://api.github.com/repos/other/secret"),
        ("GET", "https://api.github.com/repos/octo/docs/../../other/secret"),
        ("GET", "https://api.github.com/repos/octo/docs/%2e%2e/%2e%2e/other/secret"),
        ("POST", "https://api.github.com/repos/octo/docs/pulls"),
        ("PATCH", "https://api.github.com/repos/octo/site/git/refs/heads/main"),
        ("POST", "https://api.github.com/graphql"),
        ("POST", "https://uploads.github.com/repos/octo/site/releases/1/assets?name=a"),
        ("GET", "https://codeload.github.com/other/secret/tar.gz/main"),
        ("GET", "https://github.com/octo/site/settings"),
    ] {
        assert_eq!(status(method, url), "403", "{method} {url}");
    }
    assert_eq!(origin.requests().len(), passed.len());
    for request in origin.requests() {
        assert_eq!(request.header("authorization"), [format!("Bearer {token}")]);
    }
}

/// A push as bytes, for what git does not send by itself.
#[test]
fn a_push_that_cannot_be_read_is_not_sent() {
    let world = World::new("github-bytes");
    let origin = Origin::start(&world, |_| Reply::text("taken"));
    let hosts = [("github.com", origin.address())];
    let gate = gate(&world, PLUGIN, &document(PLUGIN, &[]), &hosts).env("GITHUB_TOKEN", "token").attach();
    let (old, new) = ("1".repeat(40), "2".repeat(40));
    let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let command = |reference: &str| packet(&format!("{old} {new} {reference}\0 report-status"));
    let push = |body: &str, flags: &[&str]| {
        let url = "https://github.com/octo/site.git/git-receive-pack";
        let own = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-", url];
        gate.job([&own, flags].concat()).stdin(body).run().assert_success().stdout.clone()
    };
    let fine = format!("{}0000PACK", command("refs/heads/agent/a"));
    assert_eq!(push(&fine, &[]), "200");
    assert_eq!(push(&fine, &["-H", "transfer-encoding: chunked"]), "200");
    assert_eq!(origin.requests().len(), 2);
    assert_eq!(origin.requests()[1].body, fine.as_bytes());
    for (body, flags) in [
        (fine.clone(), &["-H", "content-encoding: gzip"][..]),
        (fine.replace("0000PACK", ""), &[]),
        (fine.replace("refs/heads/agent/a", "refs/heads/agent/.a"), &[]),
        (format!("{}{}0000PACK", command("refs/heads/agent/a"), command("refs/heads/agent/b")), &[]),
        (format!("{}{fine}", packet("push-cert\0 report-status")), &[]),
        (format!("{}{fine}", packet("version 2")), &[]),
        (command("refs/heads/agent/a").repeat(700), &[]),
        ("PACK".to_owned(), &[]),
    ] {
        assert_eq!(push(&body, flags), "403", "{:?}", body.get(..200).unwrap_or(&body));
    }
    assert_eq!(origin.requests().len(), 2);
}
