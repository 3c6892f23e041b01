//! The mounts of a process, from `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The file system, as `major:minor`.
    pub(super) device: String,
    /// What of the file system is mounted.
    pub(super) root: String,
    /// Where.
    pub(super) point: String,
    /// Whether it can be read only.
    pub(super) read_only: bool,
    /// The kind of file system.
    pub(super) kind: String,
}

/// File systems of the kernel's own, which show no files of the machine.
const OF_THE_KERNEL: [&str; 11] = [
    "bpf",
    "cgroup",
    "cgroup2",
    "debugfs",
    "devpts",
    "mqueue",
    "nsfs",
    "proc",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// What engines mount into every container, of their own making.
const OF_THE_ENGINE: [&str; 5] =
    ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets"];

impl Mount {
    /// Reads one line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(2);
        let (device, root, point, options) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self {
            device: device.to_owned(),
            root: unescaped(root),
            point: unescaped(point),
            read_only: options.split(',').any(|option| option == "ro"),
            kind: after.split(' ').next()?.to_owned(),
        })
    }

    /// Whether it brings files of the machine in: a part of a file system that is at home elsewhere, or a
    /// whole one that stands on a disk.
    pub(super) fn is_from_outside(&self) -> bool {
        let is_part = self.root != "/";
        let on_disk = self.kind != "tmpfs" && self.kind != "devtmpfs" && self.kind != "ramfs";
        self.point != "/"
            && !OF_THE_KERNEL.contains(&self.kind.as_str())
            && !OF_THE_ENGINE.contains(&self.point.as_str())
            // What engines lay over files that shall read as empty.
            && self.root != "/null"
            // Device files that engines bind one by one; the device check looks at what they are.
            && !self.point.starts_with("/dev/")
            && (is_part || on_disk)
    }
}

/// All lines, or none where one is not understood.
pub(super) fn parse(text: &str) -> Option<Vec<Mount>> {
    text.lines().map(Mount::parse).collect()
}

/// Whether files of the kernel's settings could be written to, as far as mounts go.
pub(super) fn settings_are_writable(mounts: &[Mount]) -> bool {
    // The last one mounted covers those before it.
    let over = |point: &str| mounts.iter().rev().find(|mount| mount.point == point);
    over("/proc/sys").or_else(|| over("/proc")).is_some_and(|mount| mount.kind == "proc" && !mount.read_only)
}

/// Space, tab, line feed and backslash stand as `\` and three octal digits.
fn unescaped(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "\
628 512 0:59 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l
629 628 0:62 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
630 628 0:63 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
640 628 254:0 /var/lib/docker/containers/4f/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw
641 628 0:21 /docker.sock /run/docker.sock rw - tmpfs tmpfs rw
642 628 254:0 /home/a\\040b /data ro,relatime - ext4 /dev/vda rw
643 628 254:0 / /host rw,relatime - ext4 /dev/vda rw
646 629 0:63 /null /proc/keys rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
644 628 0:70 / /tmp rw - tmpfs tmpfs rw
645 629 0:62 /sys /proc/sys ro,nosuid - proc proc rw
";

    #[test]
    fn what_comes_from_outside_is_told_from_what_every_container_has() {
        let mounts = parse(DOCKER).unwrap();
        let outside: Vec<_> = mounts.iter().filter(|mount| mount.is_from_outside()).collect();
        let points: Vec<_> = outside.iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/run/docker.sock", "/data", "/host"]);
        assert_eq!((outside[1].root.as_str(), outside[1].read_only), ("/home/a b", true));
    }

    #[test]
    fn settings_are_read_only_where_that_lies_over_them() {
        let mounts = parse(DOCKER).unwrap();
        assert!(!settings_are_writable(&mounts));
        assert!(settings_are_writable(&mounts[..8]));
        assert!(!settings_are_writable(&mounts[..1]), "without /proc there are none");
    }

    #[test]
    fn a_line_that_is_not_understood_is_not_passed_over() {
        assert_eq!(parse("1 2 3"), None);
        assert_eq!(parse("628 512 0:59 / / rw overlay"), None);
        assert_eq!(parse(""), Some(vec![]));
    }
}
