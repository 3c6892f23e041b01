//! The sockets and devices that a process can see.
//!
//! **Invariant:** paths are resolved within the process's own root (openat2(2), `RESOLVE_IN_ROOT`): its links are
//! its own to choose, and must not lead us to files outside.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use super::proc_folder::ProcFolder;
use crate::doctor::subject::mounts::{self, Mount};
use crate::doctor::subject::{Found, Node, NodeKind};
use crate::workload::{ROADS_ROUND, SESSION_ROADS_ROUND};

/// How many mounts from outside are searched; each costs some twenty look-ups.
const MOUNTS_MAX: usize = 1_000;
/// How many entries of `/dev` are looked at; where there are more, something may be hidden among them.
const DEVICES_MAX: usize = 4_096;

/// The mounts of a process.
pub(super) fn mounts(process: &ProcFolder) -> Found<Vec<Mount>> {
    let text = process.text("mountinfo").map_err(|error| error.to_string())?;
    mounts::parse(&text).ok_or_else(|| "the list of mounts is not understood".to_owned())
}

/// The sockets through which something outside would act for a process: those of known names, and all that
/// were mounted.
pub(super) fn sockets(process: &ProcFolder, mounts: &[Mount]) -> Found<Vec<Node>> {
    let root = process.root().map_err(|error| error.to_string())?;
    let mut found: Vec<((u64, u64), Node)> = Vec::new();
    let mut look = |path: &str, kind| {
        if let Ok((identity, node)) = node(&root, path, |file| (file == FileType::Socket).then_some(kind))
            && !found.iter().any(|(known, _)| *known == identity)
        {
            found.push((identity, node));
        }
    };
    ROADS_ROUND.iter().for_each(|road| look(road, NodeKind::Road));
    let outside: Vec<_> = mounts.iter().filter(|mount| mount.is_from_outside()).collect();
    if outside.len() > MOUNTS_MAX {
        return Err(format!("{} mounts are too many to search", outside.len()));
    }
    for Mount { point, root: source, .. } in outside {
        let known =
            tails().any(|tail| source.ends_with(&format!("/{tail}")) || point.ends_with(&format!("/{tail}")));
        look(point, if known { NodeKind::Road } else { NodeKind::Socket });
        tails().for_each(|tail| look(&format!("{point}/{tail}"), NodeKind::Road));
    }
    Ok(found.into_iter().map(|(_, node)| node).collect())
}

/// What the paths of known sockets end in, whichever folder of the machine's was mounted.
fn tails() -> impl Iterator<Item = &'static str> {
    let whole = ROADS_ROUND.into_iter().filter_map(|road| road.strip_prefix('/'));
    let below = ROADS_ROUND.into_iter().filter_map(|road| road.strip_prefix("/run/"));
    whole.chain(below).chain(SESSION_ROADS_ROUND)
}

/// The devices of a process that lead further than its network.
pub(super) fn devices(process: &ProcFolder) -> Found<Vec<Node>> {
    let look = || -> io::Result<Vec<Node>> {
        let root = process.root()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(&root, "dev", flags, Mode::empty(), WITHIN)?;
        let names = Dir::read_from(folder)?.flatten().take(DEVICES_MAX + 1);
        let paths: Vec<_> =
            names.map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy())).collect();
        if paths.len() > DEVICES_MAX {
            return Err(io::Error::other(format!("/dev has more than {DEVICES_MAX} entries")));
        }
        let nodes =
            paths.into_iter().filter_map(|path| Some(node(&root, &path, |file| device(file, &path)).ok()?.1));
        Ok(nodes.collect())
    };
    match look() {
        // Without /dev there are none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        found => found.map_err(|error| error.to_string()),
    }
}

fn device(file: FileType, path: &str) -> Option<NodeKind> {
    match (file, path) {
        (FileType::BlockDevice, _) => Some(NodeKind::Raw),
        (FileType::CharacterDevice, "/dev/mem" | "/dev/kmem" | "/dev/port") => Some(NodeKind::Raw),
        (FileType::CharacterDevice, "/dev/vsock" | "/dev/vhost-vsock") => Some(NodeKind::Vsock),
        (FileType::CharacterDevice, "/dev/kvm") => Some(NodeKind::Kvm),
        _ => None,
    }
}

const WITHIN: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// One file of a process, if it is of a kind that matters, and what tells it from others.
fn node(
    root: &OwnedFd,
    path: &str,
    kind: impl Fn(FileType) -> Option<NodeKind>,
) -> io::Result<((u64, u64), Node)> {
    let file = openat2(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), WITHIN)?;
    let found = fstat(&file)?;
    let kind = kind(FileType::from_raw_mode(found.st_mode)).ok_or(io::ErrorKind::NotFound)?;
    let node =
        Node { path: path.to_owned(), kind, mode: found.st_mode, uid: found.st_uid, gid: found.st_gid };
    Ok(((found.st_dev, found.st_ino), node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_kind_and_name() {
        for (file, path, kind) in [
            (FileType::BlockDevice, "/dev/anything", Some(NodeKind::Raw)),
            (FileType::CharacterDevice, "/dev/mem", Some(NodeKind::Raw)),
            (FileType::CharacterDevice, "/dev/vsock", Some(NodeKind::Vsock)),
            (FileType::CharacterDevice, "/dev/kvm", Some(NodeKind::Kvm)),
            (FileType::CharacterDevice, "/dev/null", None),
            (FileType::RegularFile, "/dev/mem", None),
        ] {
            assert_eq!(device(file, path), kind, "{path}");
        }
    }

    #[test]
    fn known_sockets_are_known_wherever_their_folder_is() {
        let tails: Vec<_> = tails().collect();
        for tail in
            ["docker.sock", "run/docker.sock", "containerd/containerd.sock", "podman/podman.sock", "bus"]
        {
            assert!(tails.contains(&tail), "{tail}");
        }
    }
}
