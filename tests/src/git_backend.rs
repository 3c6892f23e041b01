//! A real `git http-backend`, for an nginx to stand before.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::job::Running;
use crate::world::{World, wait_until};

/// Who commits, and the branch that is made.
const IDENTITY: &str = "-c user.name=Agent -c user.email=agent@example.test -c init.defaultBranch=main";

/// When it is committed, so that the commit has the same name each time.
const DATES: &str = "GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'";

/// What serves the repositories of a folder.
#[derive(Debug)]
pub struct GitBackend<'world> {
    program: String,
    listen: String,
    projects: PathBuf,
    _fcgiwrap: Running<'world>,
}

impl<'world> GitBackend<'world> {
    /// Makes the repository `/project.git` with one commit, which may be pushed to, and starts what serves it.
    pub fn start(world: &'world World) -> Self {
        let projects = world.path("projects");
        let repository = projects.join("project.git");
        let seed = format!(
            "git {IDENTITY} init -q --bare {repository} && git -C {repository} config http.receivepack true \
             && git {IDENTITY} init -q seed && cd seed && echo hello >README && git add README \
             && {DATES} git {IDENTITY} commit -q -m 'First commit' && git push -q {repository} main",
            repository = repository.display(),
        );
        let folder = world.path("");
        let shell =
            |script: &str| world.root_job(world.origin_namespace(), ["sh", "-c", script]).folder(&folder);
        shell(&seed).run().assert_success();
        Self::serve(world, projects)
    }

    /// Starts what serves the repositories in `projects`. One for a world.
    pub fn serve(world: &'world World, projects: PathBuf) -> Self {
        let path = world.root_job(world.origin_namespace(), ["git", "--exec-path"]).run();
        let program = format!("{}/git-http-backend", path.stdout.trim());
        let socket = world.path("fcgiwrap.sock");
        let listen = format!("unix:{}", socket.display());
        let fcgiwrap = world.root_job(world.origin_namespace(), ["fcgiwrap", "-f", "-s", &listen]).spawn();
        wait_until("fcgiwrap", Duration::from_secs(30), || UnixStream::connect(&socket).is_ok());
        Self { program, listen, projects, _fcgiwrap: fcgiwrap }
    }

    /// nginx's `location`, in which these directives come first.
    pub fn location(&self, first: &str) -> String {
        format!(
            r#"
    location / {{
      {first}
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {projects};
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param PATH_INFO $uri;
      fastcgi_param REMOTE_USER agent;
      fastcgi_pass {listen};
    }}"#,
            backend = self.program,
            projects = self.projects.display(),
            listen = self.listen,
        )
    }

    /// Where the repository of [`Self::start`] is.
    pub fn repository(&self) -> PathBuf {
        self.projects.join("project.git")
    }
}
