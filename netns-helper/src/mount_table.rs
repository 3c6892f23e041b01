//! The mounts that a process sees, as /proc/PID/mountinfo lists them. Pure.

use std::collections::BTreeSet;

/// The kind of a file system in memory, of which ours are, and what ours have as their source.
const IN_MEMORY: &str = "tmpfs";
const OURS: &str = "sluicegate";

/// A list of mounts.
#[derive(Debug, Default)]
pub(crate) struct MountTable(Vec<Mount>);

/// One mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mount {
    id: u64,
    /// The group of mounts, in other namespaces too, in which what is mounted on one is mounted on all.
    pub(crate) shared: Option<u64>,
    /// The group from which it takes over what is mounted there.
    master: Option<u64>,
    /// Whether it is a file system in memory that somebody has mounted; devtmpfs is the machine's.
    pub(crate) is_in_memory: bool,
    /// Whether a helper of a gate's made it.
    pub(crate) is_ours: bool,
}

impl MountTable {
    /// Reads what proc_pid_mountinfo(5) describes; lines of another form are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(Mount::parse).collect())
    }

    /// The mount with this id (statx(2), `stx_mnt_id`).
    pub(crate) fn find(&self, id: u64) -> Option<Mount> {
        self.0.iter().find(|mount| mount.id == id).copied()
    }

    /// The groups by which what is mounted elsewhere is mounted here too.
    pub(crate) fn groups(&self) -> BTreeSet<u64> {
        self.0.iter().flat_map(|mount| [mount.shared, mount.master]).flatten().collect()
    }
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        // A field has no space in it: they are written as \040.
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        // Parent, device, root, mount point, options; then any number of optional fields up to a hyphen.
        let optional: Vec<&str> = fields.by_ref().skip(5).take_while(|field| *field != "-").collect();
        let group = |kind: &str| optional.iter().find_map(|field| field.strip_prefix(kind)?.parse().ok());
        let is_in_memory = fields.next() == Some(IN_MEMORY);
        let is_ours = is_in_memory && fields.next() == Some(OURS);
        Some(Self { id, shared: group("shared:"), master: group("master:"), is_in_memory, is_ours })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
30 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 30 0:39 /bundle /etc/ssl/certs/ca-certificates.crt ro,nosuid - tmpfs sluicegate ro,size=32768k
32 30 0:40 / /a\\040b rw shared:7 master:3 propagate_from:2 - tmpfs sluicegate2 rw
33 30 0:41 / /c rw master:1 - overlay sluicegate rw
34 30 0:6 / /dev rw,nosuid shared:2 - devtmpfs udev rw
no mount
";

    #[test]
    fn what_is_ours_and_what_is_shared_is_told() {
        let table = MountTable::parse(TABLE);
        let mount = |id, shared, master, [is_in_memory, is_ours]: [bool; 2]| {
            Some(Mount { id, shared, master, is_in_memory, is_ours })
        };
        assert_eq!(table.find(30), mount(30, Some(1), None, [false, false]));
        assert_eq!(table.find(31), mount(31, None, None, [true, true]));
        assert_eq!(table.find(32), mount(32, Some(7), Some(3), [true, false]));
        assert_eq!(table.find(33), mount(33, None, Some(1), [false, false]));
        assert_eq!(table.find(34), mount(34, Some(2), None, [false, false]));
        assert_eq!(table.find(35), None);
        assert_eq!(table.groups(), BTreeSet::from([1, 2, 3, 7]));
    }
}
