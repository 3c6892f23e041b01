//! The socket to the gate: one line and seven descriptors or more out, one line of plan in.
//!
//! **Invariant:** every line in is bounded and every wait has a deadline.

use crate::capture::Capture;
use crate::failure::{Failure, FailureReport, Kind};
use crate::plan::Plan;
use crate::ruleset::{OWN_V4, OWN_V6};
use crate::trust::Search;
use nix::sys::socket::{ControlMessage, MsgFlags, SockType, getsockopt, sendmsg, sockopt};
use serde::Serialize;
use std::io::{self, IoSlice, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const STEP: &str = "handover";
/// The version of what is spoken on the socket.
const PROTOCOL: u32 = 2;
/// The longest plan: a merged trust bundle and a Java store are some hundred KiB each.
const PLAN_LIMIT: usize = 8 << 20;
/// Interfaces that are named; a container has one or two.
const INTERFACES_MAX: usize = 16;
/// How long the gate may take to say go, and to take what it is sent.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the gate is told together with the descriptors.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    version: u32,
    port: u16,
    namespace: String,
    exclusive: bool,
    /// The namespace's own addresses, on which its servers are reached.
    own_addresses: [IpAddr; 2],
    /// The interfaces that stayed, as far as they fit into the line.
    interfaces: Vec<String>,
    /// Who could send past the rules by one, where that was allowed.
    pub(crate) way_past: Option<String>,
    /// Microseconds from the helper's start to the last route.
    attach_us: u64,
}

impl Ready {
    /// Describes `capture` of the namespace called `namespace`, begun at `began`.
    pub(crate) fn new(capture: &Capture, namespace: String, began: Instant) -> Self {
        let attach_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Self {
            version: PROTOCOL,
            port: capture.port,
            namespace,
            exclusive: capture.exclusive,
            own_addresses: [OWN_V4.into(), OWN_V6.into()],
            interfaces: capture.interfaces.iter().take(INTERFACES_MAX).cloned().collect(),
            way_past: None,
            attach_us,
        }
    }
}

/// What the gate is told when the workload's program has been executed.
#[derive(Debug, Serialize)]
pub(crate) struct Started {
    pub(crate) started: bool,
    /// The init of the workload's PID namespace, as the caller sees it. When it ends, all ends.
    pub(crate) pid: i32,
    /// `fresh`, or `inherited` where the kernel refused a new /proc.
    pub(crate) proc: String,
}

#[derive(Debug, Serialize)]
struct Failed {
    error: FailureReport,
}

/// Our end of the socket pair.
#[derive(Debug)]
pub(crate) struct Gate {
    stream: UnixStream,
}

impl Gate {
    /// Takes over the inherited descriptor `number`, which must be a connected stream socket.
    pub(crate) fn adopt(number: RawFd) -> Result<Self, Failure> {
        let refused = |why: &str| Failure::new(Kind::Usage, STEP, format!("--socket {number} {why}"));
        if number <= libc::STDERR_FILENO {
            return Err(
                refused("is a standard stream").hint("this program is started by sluicegate, not by hand")
            );
        }
        // SAFETY: F_GETFD reads a flag of whatever the number stands for, or fails with EBADF.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(refused("is not open").hint("this program is started by sluicegate, not by hand"));
        }
        // SAFETY: it is open, and the caller passed it for us alone, so that nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        if getsockopt(&socket, sockopt::SockType) != Ok(SockType::Stream) {
            return Err(refused("is not a stream socket"));
        }
        let stream = UnixStream::from(socket);
        stream.set_write_timeout(Some(DEADLINE)).map_err(broken)?;
        Ok(Self { stream })
    }

    /// Waits until the gate wants us to begin, as long as it takes to load a policy. False where it ended.
    pub(crate) fn begins(&self) -> bool {
        (&self.stream).read_exact(&mut [0]).is_ok()
    }

    /// Sends the line and, with its first byte, the descriptors: the capture's, and what else there is, which
    /// is the door and then the private namespace.
    pub(crate) fn ready(
        &self,
        ready: &Ready,
        capture: &Capture,
        further: &[Option<&OwnedFd>],
    ) -> Result<(), Failure> {
        let line = line(ready)?;
        let descriptors = capture.descriptors.iter().chain(further.iter().copied().flatten());
        let numbers: Vec<RawFd> = descriptors.map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(&line)],
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(|errno| broken(errno.into()))?;
        (&self.stream).write_all(line.get(sent..).unwrap_or_default()).map_err(broken)
    }

    /// Waits for the plan.
    pub(crate) fn plan(&self) -> Result<Plan, Failure> {
        Plan::parse(&self.line()?)
    }

    /// Waits for what is to be looked for.
    pub(crate) fn search(&self) -> Result<Search, Failure> {
        serde_json::from_slice(&self.line()?).map_err(|error| broken(error.into()))
    }

    /// Waits for a line of the gate's.
    fn line(&self) -> Result<Vec<u8>, Failure> {
        let until = Instant::now() + DEADLINE;
        let mut text = Vec::new();
        let mut buffer = vec![0_u8; 1 << 16];
        while !text.ends_with(b"\n") {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(broken(io::ErrorKind::TimedOut.into()));
            }
            self.stream.set_read_timeout(Some(left)).map_err(broken)?;
            let length = match (&self.stream).read(&mut buffer) {
                Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(broken(error)),
            };
            text.extend_from_slice(buffer.get(..length).unwrap_or_default());
            if text.len() > PLAN_LIMIT {
                return Err(Failure::new(
                    Kind::Internal,
                    STEP,
                    format!("the plan is longer than {PLAN_LIMIT} bytes"),
                ));
            }
        }
        Ok(text)
    }

    /// Says that the workload runs.
    pub(crate) fn started(&self, started: &Started) -> Result<(), Failure> {
        self.say(started)
    }

    /// Says a line.
    pub(crate) fn say(&self, value: &impl Serialize) -> Result<(), Failure> {
        (&self.stream).write_all(&line(value)?).map_err(broken)
    }

    /// Waits until the gate has ended, or has closed the socket.
    pub(crate) fn wait_for_end(&self) {
        // A word of the gate's is one that was not expected, and ends it too. So does an error.
        drop(self.stream.set_read_timeout(None).and_then(|()| (&self.stream).read(&mut [0])));
    }

    /// Says why it does not.
    pub(crate) fn failed(&self, failure: &Failure) -> Result<(), Failure> {
        (&self.stream).write_all(&line(&Failed { error: failure.report() })?).map_err(broken)
    }
}

fn broken(error: io::Error) -> Failure {
    Failure::new(Kind::Internal, STEP, "the gate does not answer").because(error)
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut line = serde_json::to_vec(value).map_err(|error| broken(error.into()))?;
    line.push(b'\n');
    Ok(line)
}
