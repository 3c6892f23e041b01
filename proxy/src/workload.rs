//! `sluicegate run`: a command in a sealed namespace of its own, from its first instruction.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::audit::default_log_folder;
use crate::capture::{Helper, Plan};
use crate::controller::Sealing;
use crate::document::Bundle;
use crate::exit;
use crate::folders;
use crate::instance::{Instance, InstanceError};
use crate::secrets;
use crate::trust::{self, CallerTrust};

/// Sockets through which another program of this machine would do what the gate refuses: start
/// containers and services, or resolve names. They read as empty inside.
pub(crate) const ROADS_ROUND: [&str; 13] = [
    "/run/avahi-daemon/socket",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/libvirt/libvirt-sock",
    "/run/lxd.socket",
    "/run/nscd/socket",
    "/run/podman/podman.sock",
    "/run/snapd.socket",
    "/run/systemd/private",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/var/lib/lxd/unix.socket",
];

/// The same of the caller's session, below its runtime folder.
pub(crate) const SESSION_ROADS_ROUND: [&str; 4] =
    ["bus", "docker.sock", "podman/podman.sock", "systemd/private"];

/// Variables that send clients to a proxy: the gate is on the way without one, and would have to
/// refuse their CONNECT.
pub(crate) const PROXY_VARIABLES: [&str; 8] = [
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
];

/// Signals that are passed on to the command.
pub(crate) const SIGNALS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Has the command of `helper` run sealed behind `instance` and returns its exit code. `started` is called when
/// the capture stands, before the command's first instruction.
///
/// # Errors
/// [`InstanceError`]; the command then did not run, or its last records were not written.
pub fn run(
    instance: &Instance,
    mut helper: Helper,
    started: impl FnOnce(&crate::capture::Ready),
) -> Result<u8, InstanceError> {
    let mut plan = plan(instance)?;
    let warning =
        trust::extend(&mut plan, instance.authority_pem(), &caller_trust()).map_err(InstanceError::Trust)?;
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    let captured = helper.captured().map_err(InstanceError::Capture)?;
    let hidden = plan.hide_files.iter().chain(&plan.hide_dirs).cloned().collect();
    let sealing = Sealing::Shared { hidden, removed: plan.remove_env.clone() };
    let serving = instance.serve(captured, sealing)?;
    started(&serving.ready);
    // Caught before the command's first instruction: from then on it is the command that answers them.
    let signals = SignalsInfo::new(SIGNALS).map_err(|error| InstanceError::System("catch signals", error))?;
    helper.go(&plan).map_err(InstanceError::Capture)?;
    let Some(mut child) = helper.take_child() else { return Ok(exit::BUG) };
    let relayed = relay(signals, child.id()).map_err(|error| InstanceError::System("relay signals", error));
    let status = child.wait().map_err(|error| InstanceError::System("wait for the command", error))?;
    relayed?;
    serving.stop();
    let closed = instance.close();
    match code(status) {
        exit::OK => closed.map(|()| exit::OK),
        code => Ok(code),
    }
}

fn plan(instance: &Instance) -> Result<Plan, InstanceError> {
    let trust_dir =
        folders::runtime().map_err(|error| InstanceError::System("make the runtime folder", error))?;
    let mut hide_files: Vec<PathBuf> = ROADS_ROUND.iter().map(PathBuf::from).collect();
    if let Some(session) = trust_dir.parent() {
        hide_files.extend(SESSION_ROADS_ROUND.iter().map(|road| session.join(road)));
    }
    hide_files.extend(instance.secret_files());
    let mut hide_dirs: Vec<PathBuf> = default_log_folder().into_iter().collect();
    if !hide_dirs.contains(&instance.state_folder) {
        hide_dirs.push(instance.state_folder.clone());
    }
    let is_hidden = |file: &PathBuf| hide_dirs.iter().any(|folder| file.starts_with(folder));
    hide_files.extend(instance.log_file.clone().filter(|file| !is_hidden(file)));
    let remove_env = PROXY_VARIABLES.iter().map(|name| String::from(*name));
    Ok(Plan {
        trust_dir,
        hide_files,
        hide_dirs: hide_dirs.into_iter().chain(secret_folders(instance)).collect(),
        read_only: instance.loaded.bundle.iter().flat_map(Bundle::files).collect(),
        remove_env: remove_env.chain(secrets::variables(&instance.generation().policy)).collect(),
        ..Plan::default()
    })
}

/// Folders of secrets that only their owner may enter and that the workload does not live in. Hiding
/// the file alone is not enough where it is replaced: a rename onto it takes every mount off it.
#[expect(clippy::disallowed_methods, reason = "the caller's home is told by its environment")]
fn secret_folders(instance: &Instance) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let lived_in = [std::env::current_dir().ok(), home, instance.loaded.file().map(Path::to_owned)];
    let lived_in: Vec<_> = lived_in.iter().flatten().filter_map(|path| path.canonicalize().ok()).collect();
    let folders = instance.secret_files().into_iter().filter_map(|file| file.parent()?.canonicalize().ok());
    folders
        .filter(|folder| folder.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 == 0))
        .filter(|folder| !lived_in.iter().any(|path| path.starts_with(folder)))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "what the caller's programs trust is told by its environment")]
fn caller_trust() -> CallerTrust {
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    CallerTrust {
        bundle: path("SSL_CERT_FILE"),
        wgetrc: path("WGETRC").or_else(|| path("HOME").map(|home| home.join(".wgetrc"))),
        java_home: path("JAVA_HOME"),
        java_options: std::env::var("JAVA_TOOL_OPTIONS").ok(),
    }
}

/// Passes on what other processes send us. What the terminal sends has reached the command already:
/// the kernel signals the whole foreground process group.
pub(crate) fn relay(mut signals: SignalsInfo<WithOrigin>, child: u32) -> io::Result<()> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for Origin { signal, cause, .. } in signals.forever() {
            if cause == Cause::Kernel {
                continue;
            }
            if let Some(signal) = Signal::from_named_raw(signal)
                && let Err(error) = kill_process(child, signal)
            {
                tracing::debug!(%error, "a signal could not be passed on");
            }
        }
    })?;
    Ok(())
}

/// A shell's way to say how a command ended.
pub(crate) fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit::BUG),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        (None, None) => exit::BUG,
    }
}
