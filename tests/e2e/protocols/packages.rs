//! git over HTTPS, and installers of packages with registries of their own.

use std::net::SocketAddr;

use e2e::{GitBackend, Nginx, ORIGIN_IPV4, Running, World, npm_registry, python_registry};

use crate::row::{Client, Row};
use crate::stage::address;

pub(crate) const GIT: Client = Client { name: "git", version: "git --version | cut -d' ' -f3" };
const PIP: Client = Client { name: "pip", version: "\"$PY\" -m pip --version | cut -d' ' -f2" };
const NPM: Client = Client { name: "npm", version: "npm --version" };

/// What is shown of a repository: its history, its objects, and the files as they are stored.
const SHOW: &str = "
mkdir got; git -C work log --format='%H %s' --all; git -C work ls-tree -r HEAD
git -C work count-objects -v | grep -E '^(count|in-pack):'; git -C work archive HEAD >got/tree.tar";

/// `git.test`, `pypi.test` and `npm.test`.
pub(crate) struct Packages<'world> {
    _backend: GitBackend<'world>,
    _registries: [Running<'world>; 2],
    _fronts: [Nginx<'world>; 3],
}

impl<'world> Packages<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        let behind = |port| SocketAddr::new(ORIGIN_IPV4.into(), port);
        let (python, npm) = (behind(8081), behind(8082));
        let registries = [python_registry(world, python, &[]), npm_registry(world, npm)];
        let backend = GitBackend::start(world);
        let proxied = |behind: SocketAddr| {
            format!(
                "location / {{ proxy_pass http://{behind}; proxy_set_header Host $host; \
                 proxy_set_header X-Forwarded-Proto https; }}"
            )
        };
        let front = |name, location: String| Nginx::start_at(world, name, address(name, 443), &location);
        let fronts = [
            front("git.test", backend.location("")),
            front("pypi.test", proxied(python)),
            front("npm.test", proxied(npm)),
        ];
        Self { _backend: backend, _registries: registries, _fronts: fronts }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    // Both sides push the same commit to a branch that is not there, and take it away again. It is larger
    // than what git buffers, so that it is sent in chunks: by HTTP/1.1, see `curl_rows`.
    let push = format!(
        "export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
         git config --global http.version HTTP/1.1; git config --global user.name Agent; git config --global user.email agent@example.test
         url=https://git.test/project.git; git clone -q $url first
         cd first; head -c 3000000 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null >large
         git add large; git commit -q -m 'Large file'; git push -q origin HEAD:pushed
         cd ..; git clone -q -b pushed $url work{SHOW}
         git ls-remote $url; git -C work push -q origin :pushed; git ls-remote $url"
    );
    vec![
        Row::new(
            "git over HTTPS: clone",
            GIT,
            format!("git clone -q https://git.test/project.git work{SHOW}"),
            "First commit",
        ),
        Row::new("git over HTTPS (HTTP/1.1): push, clone, delete", GIT, push, "refs/heads/pushed"),
        Row::new(
            "HTTPS: registry of Python",
            PIP,
            "\"$PY\" -m pip install -q --disable-pip-version-check --no-cache-dir --no-compile --target got \
             --index-url https://pypi.test/simple/ gatecheck
             PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=got \"$PY\" -c 'import gatecheck; print(gatecheck.GREETING)'",
            "hello from a wheel",
        ),
        Row::new(
            "HTTPS: registry of npm",
            NPM,
            "mkdir got; cd got; npm install --silent --no-audit --no-fund --no-update-notifier \
             --registry https://npm.test/ gatecheck >&2; node -p 'require(\"./node_modules/gatecheck\")'",
            "hello from a package",
        ),
    ]
}
