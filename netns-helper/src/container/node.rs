//! Where Node.js is told what to trust, as its makers build it: by OpenSSL's settings, which are mounted over, and by
//! a folder with what those name.

use super::{Container, Part};
use crate::failure::Failure;
use crate::file_tree::unreadable;
use crate::mount_table::MountTable;
use crate::sites::{Outline, Site};
use crate::trust::{Node, Search};
use rustix::fs::FileType;
use std::path::PathBuf;
use std::slice;

const PROGRAMS: &str = "Node.js as its makers build it";
/// OpenSSL's settings, where Node.js looks for them (`OPENSSLDIR` of its build, for Linux).
const SETTINGS: [&str; 3] = ["/etc", "ssl", "openssl.cnf"];
/// Where the folder is, and its name. In a container that is in memory and its own, also where its root is read-only.
const FOLDER: [&str; 2] = ["/dev", "sluicegate"];
/// The longest that are read; a distribution's have some 12 KiB.
const SETTINGS_LIMIT: u64 = 256 << 10;

/// The settings, where there are none.
static MISSING_SETTINGS: Outline = Outline {
    programs: PROGRAMS,
    folders: &[SETTINGS[1]],
    entries: &[(SETTINGS[2], FileType::RegularFile)],
    is_private: false,
};

static OWN_FOLDER: Outline = Outline {
    programs: PROGRAMS,
    folders: &[],
    entries: &[(FOLDER[1], FileType::Directory)],
    is_private: false,
};

impl Container {
    /// Finds what Node.js reads: the settings, and where there are none, whether it is there at all.
    pub(super) fn node(
        &mut self,
        search: &Search,
        mounts: &MountTable,
    ) -> Result<Option<(Node, Part)>, Failure> {
        let is_there = self.has_any(&search.node_programs)?;
        let settings: PathBuf = SETTINGS.iter().collect();
        let mut part = Part { sites: Vec::new(), files: self.candidates(slice::from_ref(&settings))? };
        let text = match part.files.first() {
            Some(target) => {
                let read = self.files.read(&target.found, SETTINGS_LIMIT);
                let Some(text) = read.map_err(|error| unreadable(&settings, error))? else { return Ok(None) };
                String::from_utf8_lossy(&text).into_owned()
            }
            None if is_there => {
                let above = Site::open(&self.files, mounts, SETTINGS[0].into(), &MISSING_SETTINGS)?;
                let Some(above) = above else { return Ok(None) };
                part.sites.push(above);
                String::new()
            }
            None => return Ok(None),
        };
        let site = Site::open(&self.files, mounts, FOLDER[0].into(), &OWN_FOLDER)?;
        // Who has no Node.js by now need not hear that it would not trust the gate.
        let Some(site) = site.filter(|site| is_there || site.is_own()) else { return Ok(None) };
        part.sites.push(site);
        let node = Node { folder: FOLDER.iter().collect(), settings, text, is_there };
        Ok(Some((node, part)))
    }
}
