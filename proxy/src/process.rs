//! What this process takes away from itself.

use std::fs;
use std::io;
use std::ops::Range;
use std::ptr;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Makes this process's memory and environment unreadable to others of the same user, keeps it out
/// of core dumps (secrets and the authority's key are in it), and lets it open as many descriptors
/// as it may.
///
/// # Errors
/// What the kernel says.
pub fn harden() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// How much memory is asked to be locked for an instance: many times what it has before its policy is there.
const LOCKED_BYTES: u64 = 64 * 1024 * 1024;

/// Lets [`lock_memory`] lock as much as it needs, as far as this process may say so.
pub fn raise_memory_lock() {
    let limit = getrlimit(Resource::Memlock);
    let wanted =
        Rlimit { current: Some(LOCKED_BYTES), maximum: limit.maximum.map(|most| most.max(LOCKED_BYTES)) };
    let allowed = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Without privileges not above the limit that was set for us, which is mostly enough.
    if let Err(error) =
        setrlimit(Resource::Memlock, wanted).or_else(|_| setrlimit(Resource::Memlock, allowed))
    {
        tracing::debug!(%error, "the limit of locked memory stays");
    }
}

/// Keeps what this process has in memory from being swapped out (mlock(2)): to be called once the authority's
/// key is made, and before there is much else. Where there is swap and it cannot be done, that is warned of.
pub fn lock_memory() {
    let locked = fs::read_to_string("/proc/self/maps").and_then(|maps| {
        for range in own_memory(&maps) {
            let start = ptr::without_provenance::<u8>(range.start);
            // Unlocked by the end of the process alone.
            std::mem::forget(region::lock(start, range.len()).map_err(io::Error::other)?);
        }
        Ok(())
    });
    if let Err(error) = locked
        && fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().nth(1).is_some())
    {
        tracing::warn!(
            %error,
            "the authority's key may be swapped out: raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)"
        );
    }
}

/// Where this process's own data are (proc_pid_maps(5)): mappings of no file, which it may read and write.
fn own_memory(maps: &str) -> impl Iterator<Item = Range<usize>> {
    maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights, file) = (fields.next()?, fields.next()?, fields.nth(2)?);
        let (start, end) = range.split_once('-')?;
        let parse = |address| usize::from_str_radix(address, 16).ok();
        (rights == "rw-p" && file == "0").then_some(parse(start)?..parse(end)?)
    })
}

/// Gives up every capability for good. To be called before other threads are started, since
/// capabilities are a thread's.
///
/// # Errors
/// What the kernel says.
pub fn drop_privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    let bit = |number: u32| CapabilitySet::from_bits_retain(1 << number);
    for number in 0..64 {
        // Above the kernel's last capability this fails, which ends the list.
        if !matches!(capability_is_in_bounding_set(bit(number)), Ok(present) if present) {
            continue;
        }
        // Only a privileged process may, and only it needs to.
        if let Err(error) = remove_capability_from_bounding_set(bit(number))
            && error != rustix::io::Errno::PERM
        {
            return Err(error.into());
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_what_belongs_to_no_file() {
        let maps = "\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 123 /usr/bin/sluicegate
55d0c0002000-55d0c0004000 rw-p 00002000 fe:00 123 /usr/bin/sluicegate
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000001000 ---p 00000000 00:00 0
7f0000001000-7f0000003000 rw-p 00000000 00:00 0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc00021000-7ffc00023000 r-xp 00000000 00:00 0 [vdso]
";
        let found: Vec<_> = own_memory(maps).map(|range| range.len()).collect();
        assert_eq!(found, [0x21000, 0x2000, 0x21000]);
    }
}
