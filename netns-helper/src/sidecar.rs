//! `sidecar`: captures our own network namespace, after its interfaces have gone into a private one.
//!
//! The other containers of a pod have joined our namespace, or will, by the path of one of its processes. So it
//! is the one that is sealed, the process that started us stays in it, and the gate serves from the private one.
//!
//! **Invariant:** the private namespace is held by descriptors alone: with the last process that has one, it
//! goes, and the interfaces with it. So nothing leaves after a failure, or after the gate's end.

use crate::GateOptions;
use crate::attach;
use crate::capture::capture;
use crate::failure::{Failure, Kind};
use crate::gate::{Gate, Ready};
use crate::interfaces::Interfaces;
use crate::routes::Routing;
use crate::settings;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

const STEP: &str = "private network namespace";

/// A setting that only the machine's own network namespace has.
const MACHINES_OWN: &str = "core/netdev_max_backlog";

/// Moves the interfaces away, captures what is left, and hands both over.
pub(crate) fn sidecar(gate: &Gate, options: GateOptions, began: Instant) -> Result<(), Failure> {
    if settings::exists(MACHINES_OWN) {
        return Err(Failure::new(Kind::Usage, STEP, "this is the machine's own network namespace").hint(
            "its interfaces would be taken away from it; run this in a container with a network of its own",
        ));
    }
    attach::require_capabilities()?;
    let shared = open_current()?;
    // Before anything else, so that it holds nothing.
    let door = options.open_door()?;
    let private = move_interfaces()?;
    setns(&shared, CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Failure::new(Kind::Privilege, STEP, "the shared namespace cannot be entered again").because(errno)
    })?;
    let capture = capture()?;
    gate.ready(&Ready::new(&capture, attach::current()?, began), &capture, &[door.as_ref(), Some(&private)])
}

/// Makes the private namespace, enters it, and makes the interfaces work there that were in ours.
fn move_interfaces() -> Result<OwnedFd, Failure> {
    let here = Routing::open()?;
    let interfaces = Interfaces::note(&here)?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
        Failure::new(Kind::Privilege, STEP, "none can be made")
            .because(errno)
            .hint("the container needs CAP_SYS_ADMIN, and a seccomp profile that knows of it")
    })?;
    let (there, private) = (Routing::open()?, open_current()?);
    interfaces.send(&here, &private)?;
    interfaces.set_up(&there)?;
    // Nobody is in there whom a low port could be kept from, and the gate will have no capability. Where it cannot
    // be set, publishing one fails later, and says so.
    settings::write("ipv4/ip_unprivileged_port_start", "0").unwrap_or_default();
    Ok(private)
}

fn open_current() -> Result<OwnedFd, Failure> {
    let opened = File::open("/proc/self/ns/net").map(OwnedFd::from);
    opened.map_err(|error| {
        Failure::new(Kind::Internal, STEP, "/proc/self/ns/net cannot be opened").because(error)
    })
}
