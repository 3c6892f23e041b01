//! Homes in a container, in which NSS is told of one more database: by a folder with the gate's own, and by the
//! list of modules, both of which are mounted. The user's database is left as it is.

use super::{Container, Part};
use crate::failure::Failure;
use crate::mount_table::MountTable;
use crate::sites::{Outline, Site};
use crate::trust::{Database, Search};
use rustix::fs::{FileType, Mode, OFlags, openat};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Homes that are looked at in one container.
const HOMES_MAX: usize = 32;
/// The longest environment that is read; a container's has some KiB.
const ENVIRONMENT_LIMIT: u64 = 128 << 10;

/// Where a user's database is (`crypto/nss_util.cc` of Chromium), and in there what is mounted: a folder with the
/// gate's, and the list of modules.
static DATABASE: Outline = Outline {
    programs: "NSS, and so Chromium,",
    folders: &[".pki", "nssdb"],
    entries: &[("sluicegate", FileType::Directory), ("pkcs11.txt", FileType::RegularFile)],
    is_private: true,
};

impl Container {
    /// Finds homes that NSS may be used in: all of them where its library is, and else those that it was.
    pub(super) fn databases(
        &mut self,
        search: &Search,
        mounts: &MountTable,
        databases: &mut Vec<Database>,
    ) -> Result<Vec<Part>, Failure> {
        let has_library = self.has_any(&search.nss_libraries)?;
        let mut parts = Vec::new();
        for home in self.homes(search, mounts)? {
            let is_there = home.has_last(&self.files)?;
            if parts.len() < HOMES_MAX && (has_library || is_there) {
                databases.push(Database { folder: home.last(), is_there });
                parts.push(Part { sites: vec![home], files: Vec::new() });
            }
        }
        Ok(parts)
    }

    fn homes(&mut self, search: &Search, mounts: &MountTable) -> Result<Vec<Site>, Failure> {
        let mut homes = Vec::new();
        for pattern in &search.homes {
            for path in self.files.expand(pattern)? {
                homes.extend(Site::open(&self.files, mounts, path, &DATABASE)?);
            }
        }
        if let Some((path, uid)) = self.home_of_process()
            && !homes.iter().any(|home| home.path() == path)
            && let Some(home) = Site::open(&self.files, mounts, path, &DATABASE)?
            && home.is_of(uid)
        {
            homes.push(home);
        }
        Ok(homes)
    }

    /// The home that the container's process was told of, and whose the process is. Either is what that says.
    fn home_of_process(&self) -> Option<(PathBuf, u32)> {
        let read = |name| {
            let file = openat(&self.process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
            let mut text = Vec::new();
            File::from(file).take(ENVIRONMENT_LIMIT).read_to_end(&mut text).ok()?;
            String::from_utf8(text).ok()
        };
        let environment = read("environ")?;
        let home = environment.split('\0').find_map(|variable| variable.strip_prefix("HOME="))?;
        let status = read("status")?;
        // Real, effective, saved and of the file system (proc_pid_status(5)).
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:\t"))?;
        let uid = uids.split('\t').next()?.parse().ok()?;
        let home = Path::new(home);
        let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        (home.is_absolute() && home.components().all(is_plain)).then(|| (home.to_owned(), uid))
    }
}
