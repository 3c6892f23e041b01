//! The container that holds the namespace: it has no interface, and its one program waits for its end.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use super::arguments::option;
use super::error::EngineRunError;
use super::pause;
use crate::container::{Answer, Engine, answer, printable};

/// How long the engine may take for one step. Each takes less than a second; a busy engine more.
const STEP_DEADLINE: Duration = Duration::from_secs(60);

/// An image of a workload's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image<'a> {
    /// As the workload's options name it.
    pub(super) name: &'a OsStr,
    /// Which of its platforms, where one was chosen.
    pub(super) platform: Option<&'a OsStr>,
    /// Whether it has to be here.
    pub(super) is_never_pulled: bool,
}

/// A container that holds a namespace, until [`Infra::clear`].
pub(super) struct Infra {
    /// Whose it is.
    pub(super) engine: Engine,
    name: String,
}

impl Infra {
    /// Makes and starts one for an instance, with these options besides, of an image of ours or of that of the
    /// workload. The image is made, or pulled, if it is not there.
    pub(super) async fn start(
        engine: Engine,
        instance: &str,
        options: &[OsString],
        image: Option<Image<'_>>,
    ) -> Result<Self, EngineRunError> {
        let infra = Self { engine, name: format!("sluicegate-{instance}") };
        let mut common: Vec<OsString> = [
            "--pull=never",
            "--network=none",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            // What takes time to be made and nobody is there for: a filter for a program that has one system call
            // and no data, and memory to share.
            "--security-opt=seccomp=unconfined",
            "--ipc=none",
            "--log-driver=none",
            // The first process of a container has no other end.
            "--stop-signal=KILL",
        ]
        .map(OsString::from)
        .to_vec();
        common.push(option("name", Some(OsStr::new(&infra.name))));
        common.push(option("label", Some(OsStr::new(&format!("sluicegate={instance}")))));
        common.extend_from_slice(options);
        let started = match image {
            None => infra.start_ours(common).await,
            Some(image) => infra.start_image(common, image).await,
        };
        if started.as_ref().is_err_and(may_be_left) {
            // One that was made and not started, mostly there is none.
            drop(infra.remove().await);
        }
        started.map(|()| infra)
    }

    async fn start_ours(&self, mut options: Vec<OsString>) -> Result<(), EngineRunError> {
        options.splice(0..0, ["run", "--detach", "--read-only"].map(OsString::from));
        options.extend([pause::IMAGE, pause::PATH].map(OsString::from));
        let engine = self.engine;
        make(engine, &options, pause::IMAGE.as_ref(), || import(engine)).await
    }

    /// The program that waits is put into the container that was made, and nothing of the image is run.
    async fn start_image(&self, mut options: Vec<OsString>, image: Image<'_>) -> Result<(), EngineRunError> {
        options.insert(0, "create".into());
        options.extend(["--no-healthcheck", "--user=0:0", "--workdir=/"].map(OsString::from));
        options.push(option("entrypoint", Some(OsStr::new(pause::PATH))));
        options.extend(image.platform.map(|platform| option("platform", Some(platform))));
        options.push(image.name.into());
        make(self.engine, &options, image.name, || pull(self.engine, image)).await?;
        let what = "put a program into the container that holds the namespace";
        let line = ["cp".into(), "-".into(), format!("{}:/", self.name).into()];
        done(self.engine, what, &ask(self.engine, what, &line, &archive()?).await?)?;
        let what = "start the container that holds the namespace";
        let line = ["start", "--", &self.name].map(OsString::from);
        done(self.engine, what, &ask(self.engine, what, &line, &[]).await?)
    }

    /// What a gate attaches to.
    pub(super) fn target(&self) -> String {
        format!("{}:{}", self.engine, self.name)
    }

    /// The options of a container that joins it.
    pub(super) fn joining(&self) -> Vec<OsString> {
        let mut options = vec![option("network", Some(OsStr::new(&format!("container:{}", self.name))))];
        if self.engine == Engine::Podman {
            // It does not let a container go that another one has joined, whether that runs or not.
            options.push("--rm".into());
        }
        options
    }

    /// Removes it, and with it the gate ends.
    async fn remove(&self) -> Result<(), EngineRunError> {
        let line = ["rm", "--force", "--volumes", "--", &self.name].map(OsString::from);
        let what = "remove the container that holds the namespace";
        done(self.engine, what, &ask(self.engine, what, &line, &[]).await?)
    }

    /// Removes it after the workload's container, which is ended where it has not ended.
    pub(super) async fn clear(&self, workload: Option<&str>) {
        let kill = async {
            if let Some(container) = workload {
                self.kill(container).await;
            }
        };
        let removed = match self.engine {
            // What has joined loses nothing but the gate, so that neither waits for the other.
            Engine::Docker => tokio::join!(kill, self.remove()).1,
            Engine::Podman => {
                kill.await;
                self.remove().await
            }
        };
        if let Err(error) = removed {
            tracing::error!(error = crate::causes::in_words(&error), "the gate may go on");
        }
    }

    /// Ends a container that has joined it, if it has not ended.
    pub(super) async fn kill(&self, container: &str) {
        let line = ["kill", "--", container].map(OsString::from);
        // Mostly it has ended, and then that is what the engine says.
        if let Err(error) = ask(self.engine, "end the container", &line, &[]).await {
            tracing::error!(container, error = crate::causes::in_words(&error));
        }
    }
}

/// Has the engine make a container; its image is brought if it is not there.
async fn make<F>(
    engine: Engine,
    line: &[OsString],
    image: &OsStr,
    bring: impl FnOnce() -> F,
) -> Result<(), EngineRunError>
where
    F: Future<Output = Result<(), EngineRunError>>,
{
    let what = "make the container that holds the namespace";
    let made = ask(engine, what, line, &[]).await?;
    if made.status.success() || has_image(engine, image).await? {
        return done(engine, what, &made);
    }
    bring().await?;
    done(engine, what, &ask(engine, what, line, &[]).await?)
}

/// Whether a container can be there although it was not started. One whose name was taken is another's.
fn may_be_left(error: &EngineRunError) -> bool {
    match error {
        EngineRunError::Engine { complaint, .. } => !complaint.contains("already in use"),
        EngineRunError::Silent { .. } => true,
        _ => false,
    }
}

async fn has_image(engine: Engine, image: &OsStr) -> Result<bool, EngineRunError> {
    let mut line = ["image", "inspect", "--format={{.Id}}"].map(OsString::from).to_vec();
    line.extend(["--".into(), image.into()]);
    Ok(ask(engine, "look for an image", &line, &[]).await?.status.success())
}

async fn import(engine: Engine) -> Result<(), EngineRunError> {
    let what = "import the image of the container that holds the namespace";
    let line = ["import", "-", pause::IMAGE].map(OsString::from);
    done(engine, what, &ask(engine, what, &line, &archive()?).await?)
}

/// Shows how it goes, on standard error: it takes as long as it takes.
async fn pull(engine: Engine, image: Image<'_>) -> Result<(), EngineRunError> {
    if image.is_never_pulled {
        // The engine says that it is not there.
        return Ok(());
    }
    let what = "pull the image";
    let mut command = engine.command();
    command.arg("pull").args(image.platform.map(|platform| option("platform", Some(platform))));
    command.arg("--").arg(image.name).stdin(Stdio::null()).stdout(io::stderr());
    let status = command.status().await.map_err(|source| EngineRunError::Start { engine, what, source })?;
    if status.success() {
        return Ok(());
    }
    Err(EngineRunError::Engine { engine, what, complaint: "its own words are above".into() })
}

/// The program that waits, as files for the engine.
fn archive() -> Result<Vec<u8>, EngineRunError> {
    let archive = pause::image().ok_or(EngineRunError::Architecture)?;
    archive.map_err(|error| EngineRunError::System("make an image", error))
}

fn done(engine: Engine, what: &'static str, answer: &Answer) -> Result<(), EngineRunError> {
    if answer.status.success() {
        return Ok(());
    }
    Err(EngineRunError::Engine { engine, what, complaint: printable(&answer.complaint) })
}

/// Has the engine's program do something, and waits until it has.
async fn ask(
    engine: Engine,
    what: &'static str,
    line: &[OsString],
    input: &[u8],
) -> Result<Answer, EngineRunError> {
    let mut command = engine.command();
    // What the terminal sends to this command is not for it: what was begun is ended.
    command.args(line).process_group(0);
    tokio::time::timeout(STEP_DEADLINE, answer(command, input))
        .await
        .map_err(|_| EngineRunError::Silent { engine, what })?
        .map_err(|source| EngineRunError::Start { engine, what, source })
}
