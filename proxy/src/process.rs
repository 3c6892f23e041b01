//! What this process takes away from itself.

use std::io;

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
