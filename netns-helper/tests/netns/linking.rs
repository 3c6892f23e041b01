//! The helper carries libnftnl and libmnl in itself.

use std::process::Command;

#[test]
fn neither_netlink_library_is_needed_at_run_time() {
    let listed =
        Command::new("readelf").args(["-d", env!("CARGO_BIN_EXE_sluicegate-netns")]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("NEEDED") && listed.contains("libc.so"), "{listed}");
    assert!(!listed.contains("libmnl") && !listed.contains("libnftnl"), "{listed}");
}
