//! Plays the gate: starts the helper on a socket pair, takes the descriptors, serves the sockets; and
//! makes the namespaces, as root and as an ordinary user.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_sluicegate-netns");
/// Every wait of these tests ends by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// The ordinary user.
pub(crate) const USER: u32 = 61_010;

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    Root,
    User,
}

impl Caller {
    /// A command run as this caller.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Self::Root => Command::new(program),
            Self::User => {
                let mut command = Command::new("setpriv");
                let id = USER.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", program]);
                command
            }
        }
    }
}

/// Asks until the answer is yes.
pub(crate) fn until(what: &str, mut yes: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !yes() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::yield_now();
    }
}

/// A process in a network namespace of its own, which lives as long as this does.
pub(crate) struct Namespace {
    sleeper: Child,
}

impl Namespace {
    pub(crate) fn of(caller: Caller) -> Self {
        let flags = if caller == Caller::Root { "-n" } else { "-Urn" };
        let sleeper = caller.command("unshare").args([flags, "sleep", "600"]).spawn().unwrap();
        let namespace = Self { sleeper };
        // The program's own name, since setpriv and unshare run under the same pid before it.
        let name = format!("/proc/{}/comm", namespace.sleeper.id());
        until("the namespace exists", || fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep"));
        namespace
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.sleeper.id()))
    }

    /// Runs `work` in the namespace; programs that it starts are in there too.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.path(), work)
    }

    /// Everything that nft lists in the namespace.
    pub(crate) fn rules(&self) -> String {
        self.inside(|| output(Command::new("nft").args(["list", "ruleset"])))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.sleeper.kill().unwrap();
        self.sleeper.wait().unwrap();
    }
}

/// Runs `work` on a thread of its own in the network namespace at `path`.
pub(crate) fn inside<T: Send>(path: &std::path::Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(path).unwrap();
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        entered.join().unwrap()
    })
}

/// A helper at work, and the gate's end of its socket.
pub(crate) struct Helper {
    pub(crate) child: Child,
    socket: BufReader<UnixStream>,
    /// The first line.
    pub(crate) ready: Value,
    /// The descriptors that came with it, in their order.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Helper {
    pub(crate) fn attach(caller: Caller, namespace: &OsStr) -> Self {
        Self::start(caller.command(HELPER), |command, socket| {
            command.arg("attach").arg("--namespace").arg(namespace).args(["--socket", socket]);
        })
    }

    /// Starts `run`; the output is captured, the input empty.
    pub(crate) fn run(command: Command, workload: &[&str]) -> Self {
        Self::start(command, |command, socket| {
            command.args(["run", "--socket", socket, "--"]).args(workload);
        })
    }

    fn start(mut command: Command, arguments: impl FnOnce(&mut Command, &str)) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        arguments(&mut command, &theirs.as_raw_fd().to_string());
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(theirs);
        let (line, descriptors) = receive(&ours);
        let ready = serde_json::from_slice(&line).unwrap_or(Value::Null);
        Self { child, socket: BufReader::new(ours), ready, descriptors }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ready["port"].as_u64().unwrap().try_into().unwrap()
    }

    /// Sends the plan and gives the answer.
    pub(crate) fn go(&mut self, plan: &Value) -> Value {
        writeln!(self.socket.get_mut(), "{plan}").unwrap();
        let mut line = String::new();
        self.socket.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Sends the plan, expects a start, and waits for the end.
    pub(crate) fn finish(mut self, plan: &Value) -> (ExitStatus, String) {
        let answer = self.go(plan);
        assert_eq!(answer["started"], true, "{answer}");
        self.end()
    }

    /// Waits for the end, with what was printed.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap(), text)
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// A connection that the listener of the family accepts, with its original destination.
    pub(crate) fn accept(&self, v6: bool) -> (TcpStream, SocketAddr) {
        let listener = TcpListener::from(self.descriptors[usize::from(v6)].try_clone().unwrap());
        listener.set_nonblocking(false).unwrap();
        SockRef::from(&listener).set_read_timeout(Some(DEADLINE)).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let original = stream.local_addr().unwrap();
        (stream, original)
    }

    /// A datagram: its content, its sender, its original destination.
    pub(crate) fn datagram(&self, v6: bool) -> (Vec<u8>, SocketAddr, SocketAddr) {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
        let socket = UdpSocket::from(self.descriptors[2 + usize::from(v6)].try_clone().unwrap());
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = [0; 2048];
        let mut vectors = [IoSliceMut::new(&mut buffer)];
        let mut space = nix::cmsg_space!([u8; 64]);
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut vectors, Some(&mut space), MsgFlags::empty())
                .unwrap();
        let original = message.cmsgs().unwrap().find_map(|part| match part {
            ControlMessageOwned::Ipv4OrigDstAddr(a) => {
                Some(SocketAddr::from((a.sin_addr.s_addr.to_ne_bytes(), u16::from_be(a.sin_port))))
            }
            ControlMessageOwned::Ipv6OrigDstAddr(a) => {
                Some(SocketAddr::from((a.sin6_addr.s6_addr, u16::from_be(a.sin6_port))))
            }
            _ => None,
        });
        let sender = message.address.unwrap();
        let sender = match sender.as_sockaddr_in6() {
            Some(address) => SocketAddr::from((address.ip(), address.port())),
            None => sender.as_sockaddr_in().map(|a| SocketAddr::from((a.ip(), a.port()))).unwrap(),
        };
        let length = message.bytes;
        (buffer[..length].to_vec(), sender, original.unwrap())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Ended already, mostly.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Reads one line and the descriptors that come with its first byte.
fn receive(socket: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    (buffer[..received.bytes].to_vec(), descriptors)
}

/// Connects within `patience`.
pub(crate) fn connect(to: &str, patience: Duration) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.connect_timeout(&SockAddr::from(to), patience)?;
    Ok(socket.into())
}

/// Sends one datagram, from a socket that is returned.
pub(crate) fn send(to: &str, content: &[u8]) -> io::Result<UdpSocket> {
    let to: SocketAddr = to.parse().unwrap();
    let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send_to(content, to)?;
    Ok(socket)
}

/// What a program prints; it must succeed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
