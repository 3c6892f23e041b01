//! What is mounted over a container's files, and taken off again.

use super::{BY_HAND, Container, Part, Target, Targets, enter, internal, privilege};
use crate::failure::Failure;
use crate::file_tree::FileTree;
use crate::mounts;
use crate::plan::{Mount, Plan};
use crate::sites::Site;
use nix::sys::stat::{Mode as FileMode, umask};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::CapabilitySet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What is mounted, and what was made for that.
pub(crate) struct Placed {
    mounts: Vec<OwnedFd>,
    sites: Vec<Site>,
    /// What could not be done, of which the rest does not depend.
    pub(crate) warnings: Vec<String>,
}

impl Container {
    /// Mounts the plan's files over their targets; all of them, or none. A part in which something cannot be made
    /// is left out.
    pub(crate) fn place(&self, plan: &Plan, targets: Targets) -> Result<Placed, Failure> {
        // Everybody in the container is to read what is made.
        umask(FileMode::S_IWGRP | FileMode::S_IWOTH);
        let Targets { mut files, parts } = targets;
        let mut placed = Placed { mounts: Vec::new(), sites: Vec::new(), warnings: Vec::new() };
        let mut left_out = Vec::new();
        for mut part in parts {
            let places = part.places();
            if !plan.mounts.iter().any(|mount| places.contains(&mount.over)) {
                continue;
            }
            match self.make(&mut part) {
                Ok(made) => {
                    files.extend(part.files.into_iter().chain(made));
                    placed.sites.extend(part.sites);
                }
                Err(failure) => {
                    part.sites.iter().for_each(Site::clear);
                    placed.warnings.push(failure.in_a_line());
                    left_out.extend(places);
                }
            }
        }
        let wanted = plan.mounts.iter().filter(|mount| !left_out.contains(&mount.over));
        let mounted =
            self.copies(plan, wanted, files).and_then(|copies| self.mount(copies, &mut placed.mounts));
        match mounted {
            Ok(()) => Ok(placed),
            Err(failure) => {
                placed.take_off(&self.files);
                Err(failure)
            }
        }
    }

    /// Makes what is to be mounted over and is not there.
    fn make(&self, part: &mut Part) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        for site in &mut part.sites {
            site.make()?;
            for (name, kind) in site.entries() {
                let over = site.last().join(name);
                let Some(found) = self.uncover(&over, || site.find(name))? else { continue };
                site.check(name, *kind, &found)?;
                targets.push(Target { over, found });
            }
        }
        Ok(targets)
    }

    /// Makes the plan's files, each as a mount that is nowhere yet.
    fn copies<'a>(
        &self,
        plan: &Plan,
        wanted: impl Iterator<Item = &'a Mount>,
        mut targets: Vec<Target>,
    ) -> Result<Vec<(OwnedFd, Target)>, Failure> {
        enter(&self.workshop)?;
        let folder = mounts::trust_folder(plan)?;
        let mut copies = Vec::new();
        for wanted in wanted {
            let Some(index) = targets.iter().position(|target| target.over == wanted.over) else {
                return Err(internal("the plan names a file that was not found"));
            };
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let copy = open_tree(CWD, folder.join(&wanted.file), flags).map_err(|errno| {
                privilege("a mount cannot be made").because(errno).hint("Linux 5.8 or later is needed")
            })?;
            copies.push((copy, targets.swap_remove(index)));
        }
        Ok(copies)
    }

    /// Mounts each over its target.
    fn mount(&self, copies: Vec<(OwnedFd, Target)>, placed: &mut Vec<OwnedFd>) -> Result<(), Failure> {
        enter(&self.namespace)?;
        for (copy, target) in copies {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            if let Err(errno) = move_mount(&copy, "", &target.found.file, "", flags) {
                let what = format!("nothing can be mounted over the container's {}", target.over.display());
                let hint = format!("it may have been replaced just now: try again, or {BY_HAND}");
                return Err(privilege(what).because(errno).hint(hint));
            }
            placed.push(copy);
        }
        Ok(())
    }
}

impl Part {
    /// What is mounted over, all of it or nothing.
    fn places(&self) -> Vec<PathBuf> {
        let made = self.sites.iter().flat_map(|site| {
            let last = site.last();
            site.entries().iter().map(move |(name, _)| last.join(name))
        });
        self.files.iter().map(|target| target.over.clone()).chain(made).collect()
    }
}

impl Placed {
    /// How many files and folders are mounted over.
    pub(crate) fn count(&self) -> usize {
        self.mounts.len()
    }

    /// What [`Self::take_off`] needs: what is made in another user's folder is removed as that user.
    pub(crate) fn needed(&self) -> CapabilitySet {
        self.sites.iter().fold(CapabilitySet::SYS_ADMIN, |needed, site| needed | site.needed())
    }

    /// Takes off what is mounted, and removes what was made. What the container unmounted itself is gone already.
    pub(crate) fn take_off(&self, files: &FileTree) {
        for mounted in self.mounts.iter().rev() {
            files.unmount(mounted).unwrap_or_default();
        }
        self.sites.iter().for_each(Site::clear);
    }
}
