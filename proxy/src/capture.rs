//! Starts `sluicegate-netns` and takes over the sockets that it makes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde::{Deserialize, Serialize};

/// How long the helper may take; it takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest line of the helper's.
const LINE_BYTES_MAX: usize = 4_096;

/// Descriptors that it hands over: seven, the door, and the private namespace.
const DESCRIPTORS_MAX: usize = 9;

/// The helper's version of the hand-over that this program understands.
const HANDOVER_VERSION: u32 = 2;

/// What to capture.
#[derive(Debug)]
pub enum Target {
    /// A namespace made for this command, which runs in it.
    Run(Vec<OsString>),
    /// An existing namespace, by path.
    Attach(PathBuf, Interfaces),
    /// Our own namespace, after its interfaces have gone into a private one.
    Sidecar,
}

/// What an existing namespace may have besides `lo`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// Nothing: whatever leads out is refused.
    #[default]
    Refused,
    /// Interfaces, which stay for what comes in, where no process could write frames to them.
    Kept,
    /// Interfaces, and processes with `CAP_NET_RAW`, which could.
    KeptWithNetRaw,
}

impl Interfaces {
    /// What the helper is told.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Refused => &[],
            Self::Kept => &["--keep-interface"],
            Self::KeptWithNetRaw => &["--keep-interface", "--allow-net-raw"],
        }
    }
}

/// The sockets of a captured namespace. Whoever holds them needs no capability to use them.
#[derive(Debug)]
pub struct Captured {
    /// Transparent listeners, IPv4 and IPv6.
    pub listeners: [TcpListener; 2],
    /// UDP sockets that report the original destination, IPv4 and IPv6.
    pub datagrams: [UdpSocket; 2],
    /// Raw sockets for answers from any address, IPv4 and IPv6.
    pub raw: [OwnedFd; 2],
    /// Owns the nftables table: while it is open nobody else may change it.
    pub owner: OwnedFd,
    /// Leads to a process in the namespace that makes sockets, where one was asked for.
    pub door: Option<OwnedFd>,
    /// The namespace with the interfaces, of a sidecar.
    pub private: Option<OwnedFd>,
    /// What the helper said with them.
    pub ready: Ready,
}

impl Captured {
    /// What belongs to one namespace: listeners, UDP and raw sockets, each of IPv4 and IPv6, and the table's owner.
    pub fn of([tcp4, tcp6, udp4, udp6, raw4, raw6, owner]: [OwnedFd; 7], ready: Ready) -> Self {
        Self {
            listeners: [tcp4.into(), tcp6.into()],
            datagrams: [udp4.into(), udp6.into()],
            raw: [raw4, raw6],
            owner,
            door: None,
            private: None,
            ready,
        }
    }

    /// What [`Self::of`] takes.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 7] {
        let ([tcp4, tcp6], [udp4, udp6], [raw4, raw6]) = (&self.listeners, &self.datagrams, &self.raw);
        [
            tcp4.as_fd(),
            tcp6.as_fd(),
            udp4.as_fd(),
            udp6.as_fd(),
            raw4.as_fd(),
            raw6.as_fd(),
            self.owner.as_fd(),
        ]
    }
}

/// What the helper says when the namespace is captured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Ready {
    version: u32,
    /// The namespace, as `net:[inode]`.
    pub namespace: String,
    /// Whether the kernel keeps others from capturing it too.
    pub exclusive: bool,
    /// The namespace's own addresses, IPv4 and IPv6, on which its servers are reached.
    pub own_addresses: [IpAddr; 2],
    /// The interfaces that stayed for what comes in.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Who could send past the gate by one of them, where that was allowed.
    #[serde(default)]
    pub way_past: Option<String>,
    /// Microseconds from the helper's start to the last route.
    pub attach_us: u64,
}

/// What the workload is to see; the helper carries it out inside the workload's mount namespace.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// Files that are put into `trust_dir`.
    pub files: Vec<TrustFile>,
    /// An existing folder that those files cover.
    pub trust_dir: PathBuf,
    /// Which of them are laid over which existing file.
    pub mounts: Vec<Mount>,
    /// Files and sockets that read as empty.
    pub hide_files: Vec<PathBuf>,
    /// Folders that read as empty.
    pub hide_dirs: Vec<PathBuf>,
    /// Files that are readable only.
    pub read_only: Vec<PathBuf>,
    /// Variables to set.
    pub set_env: BTreeMap<String, String>,
    /// Variables to take out.
    pub remove_env: Vec<String>,
}

/// A file for the workload, by content.
#[derive(Debug, Serialize)]
pub struct TrustFile {
    /// Its name in the trust folder, or that of a folder in it, and its name in that.
    pub name: String,
    /// Its content, when it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its content in base64, when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// One trust file over one existing file, or a folder of them over a folder.
#[derive(Debug, Deserialize, Serialize)]
pub struct Mount {
    /// The trust file's name, or the folder's.
    pub file: String,
    /// The file that it covers.
    pub over: PathBuf,
}

/// What the helper reports when it cannot do its work.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// During which step.
    pub step: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The exit code that fits.
    pub exit_code: u8,
}

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The helper is not where this program is.
    #[error("cannot start {}", path.display())]
    Start {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it did not start.
        #[source]
        source: io::Error,
    },
    /// The helper says why.
    #[error("{}: {}", .0.step, .0.message)]
    Helper(Report),
    /// The helper did not keep to the protocol: another version of it, perhaps.
    #[error("the helper's answer is not understood ({0})")]
    Protocol(&'static str),
    /// The helper is gone, or does not answer.
    #[error("the helper does not answer")]
    Silent(#[source] io::Error),
}

impl CaptureError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Start { .. } => Some("install sluicegate-netns in the folder of sluicegate"),
            Self::Helper(report) => report.hint.as_deref(),
            Self::Protocol(_) => Some("install sluicegate and sluicegate-netns of the same version"),
            Self::Silent(_) => None,
        }
    }

    /// The exit code that fits: the helper's own, or "cannot be done here".
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Helper(report) => report.exit_code,
            _ => crate::exit::UNAVAILABLE,
        }
    }
}

/// A started helper, which is ended and waited for where it is dropped: whoever started us may take in what we
/// leave behind, and crun takes the end of that for the end of its hook.
#[derive(Debug)]
pub struct Helper {
    socket: UnixStream,
    child: Option<Child>,
    has_door: bool,
    is_sidecar: bool,
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which is as good.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Helper {
    /// Starts the helper for `target`, `with_door` where connections are to come in. It does nothing before
    /// [`Self::captured`] asks for it. To be called on the main thread: the workload dies with the thread that
    /// started it (`PR_SET_PDEATHSIG`).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(target: &Target, with_door: bool) -> Result<Self, CaptureError> {
        let verb = match target {
            Target::Run(_) => "run",
            Target::Attach(..) => "attach",
            Target::Sidecar => "sidecar",
        };
        let (socket, child) = start_helper(verb, |command| {
            command.arg("--wait").args(with_door.then_some("--door"));
            match target {
                Target::Run(program) => command.arg("--").args(program),
                Target::Attach(namespace, interfaces) => {
                    command.arg("--namespace").arg(namespace).args(interfaces.arguments())
                }
                Target::Sidecar => command,
            };
        })?;
        Ok(Self {
            socket,
            child: Some(child),
            has_door: with_door,
            is_sidecar: matches!(target, Target::Sidecar),
        })
    }

    /// Has the namespace captured.
    ///
    /// # Errors
    /// [`CaptureError`], mostly in the helper's words.
    pub fn captured(&mut self) -> Result<Captured, CaptureError> {
        self.socket.write_all(b"\n").map_err(CaptureError::Silent)?;
        let mut line = vec![0; LINE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut line)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(|error| CaptureError::Silent(error.into()))?;
        let mut descriptors = Vec::with_capacity(DESCRIPTORS_MAX);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        line.truncate(received.bytes);
        self.read_line(&mut line)?;
        let ready: Ready = parse(&line)?;
        if ready.version != HANDOVER_VERSION {
            return Err(CaptureError::Protocol("another version"));
        }
        // In the order of the helper's, from the last.
        let private = if self.is_sidecar { descriptors.pop() } else { None };
        let door = if self.has_door { descriptors.pop() } else { None };
        let descriptors =
            descriptors.try_into().map_err(|_| CaptureError::Protocol("not seven descriptors"))?;
        Ok(Captured { door, private, ..Captured::of(descriptors, ready) })
    }

    /// Lets the command run as `plan` says, and waits until it does.
    ///
    /// # Errors
    /// [`CaptureError`]; the command then never ran.
    pub fn go(&mut self, plan: &Plan) -> Result<(), CaptureError> {
        let mut line = serde_json::to_vec(plan).map_err(|_| CaptureError::Protocol("the plan"))?;
        line.push(b'\n');
        self.socket.write_all(&line).map_err(CaptureError::Silent)?;
        let mut answer = Vec::new();
        self.read_line(&mut answer)?;
        #[derive(Deserialize)]
        struct Started {}
        parse::<Started>(&answer).map(|_| ())
    }

    /// The process that stands for the workload: signals sent to it reach the command. The caller waits for
    /// it; there is one unless this was called before.
    pub fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }

    /// Reads on until `line` ends in a line feed.
    fn read_line(&mut self, line: &mut Vec<u8>) -> Result<(), CaptureError> {
        let until = Instant::now() + DEADLINE;
        let mut chunk = [0; 512];
        while !line.ends_with(b"\n") {
            if line.len() > LINE_BYTES_MAX || Instant::now() > until {
                return Err(CaptureError::Protocol("an endless line"));
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(CaptureError::Silent(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => line.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::Silent(error)),
            }
        }
        Ok(())
    }
}

/// Starts the helper with this verb, what `configure` adds, and one end of a socket; the other is the answer.
pub(crate) fn start_helper(
    verb: &str,
    configure: impl FnOnce(&mut Command),
) -> Result<(UnixStream, Child), CaptureError> {
    let path = helper_path();
    let failed = |source| CaptureError::Start { path: path.clone(), source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
    ours.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
    // The helper inherits it by number. No other program is started meanwhile.
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).map_err(|error| failed(error.into()))?;
    let mut command = Command::new(&path);
    command.args([verb, "--socket", &theirs.as_raw_fd().to_string()]);
    configure(&mut command);
    let child = command.spawn().map_err(failed)?;
    Ok((ours, child))
}

/// Reads an answer, or the report that came in its place.
pub(crate) fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, CaptureError> {
    #[derive(Deserialize)]
    struct Failed {
        error: Report,
    }
    if let Ok(Failed { error }) = serde_json::from_slice(line) {
        return Err(CaptureError::Helper(error));
    }
    serde_json::from_slice(line).map_err(|_| CaptureError::Protocol("not the expected answer"))
}

/// Beside this program and nowhere else: it may run as root, and `PATH` is the caller's.
pub(crate) fn helper_path() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    own.parent().unwrap_or_else(|| Path::new("/")).join("sluicegate-netns")
}
