//! Settings below `/proc/sys/net`, which are those of the calling thread's network namespace.

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const FOLDER: &str = "/proc/sys/net";

/// Whether there is a setting of this name, such as `ipv6/conf/lo/disable_ipv6`.
pub(crate) fn exists(name: &str) -> bool {
    Path::new(FOLDER).join(name).exists()
}

/// Its value, without the line's end.
pub(crate) fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Path::new(FOLDER).join(name))?.trim().to_owned())
}

/// Sets it, where it is not so already.
///
/// Engines make `/proc/sys` read-only in their containers, the one of the gate included. Where we may mount,
/// another procfs, which nobody sees and which goes with this call, has it writable.
pub(crate) fn write(name: &str, value: &str) -> io::Result<()> {
    if read(name)? == value {
        return Ok(());
    }
    match fs::write(Path::new(FOLDER).join(name), value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            // What the caller can do something about is the first error.
            write_unseen(name, value).map_err(|_| error)
        }
        written => written,
    }
}

fn write_unseen(name: &str, value: &str) -> io::Result<()> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let root = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let path = Path::new("sys/net").join(name);
    let file = rustix::fs::openat(&root, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}
