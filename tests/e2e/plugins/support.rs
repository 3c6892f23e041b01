//! A ready-made handler in a world of its own: its policy as it is shipped, its hosts at servers of ours.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::{Gate, World};
use serde_json::Value;

/// Where the handlers are.
pub(crate) fn folder(plugin: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("policy-plugins/plugins").join(plugin)
}

/// The document of a handler with some texts in place of others, which must be there.
pub(crate) fn document(plugin: &str, changes: &[(&str, &str)]) -> String {
    let document = fs::read_to_string(folder(plugin).join("sluicegate.toml")).unwrap();
    changes.iter().fold(document, |document, (from, to)| {
        assert!(document.contains(from), "{plugin}/sluicegate.toml has no {from}");
        document.replace(from, to)
    })
}

/// A gate with this document of a handler, where these hosts are found by https at these addresses.
pub(crate) fn gate<'world>(
    world: &'world World,
    plugin: &str,
    document: &str,
    hosts: &[(&str, SocketAddr)],
) -> Gate<'world> {
    for entry in fs::read_dir(folder(plugin)).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".js") || name.ends_with(".rhai") {
            world.file(&name, fs::read(entry.path()).unwrap());
        }
    }
    let resolve: Vec<_> = hosts.iter().map(|(host, address)| (format!("{host}:443"), *address)).collect();
    let resolve: Vec<_> = resolve.iter().map(|(authority, address)| (authority.as_str(), *address)).collect();
    world.gate(&format!("{document}\n{}", world.upstream(&resolve)))
}

/// The lines that handlers logged.
pub(crate) fn handler_lines(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|line| line["kind"] == "handler").collect()
}
