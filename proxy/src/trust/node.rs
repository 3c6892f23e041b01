//! What Node.js is told in a container, as its makers build it: it has its authorities compiled in, and the one file
//! that it reads of itself is OpenSSL's settings. Those load a library, which names one more authority to it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use super::{node_module, text};
use crate::capture::{Mount, Plan, TrustFile};

/// The folder with the library and the authority, among the files that are mounted.
const FOLDER: &str = "node";
const LIBRARY: &str = "node.so";
const AUTHORITY: &str = "ca.pem";
/// The settings, among those files.
const SETTINGS: &str = "openssl.cnf";
/// What Node.js looks for in them, and no other program (`--openssl-shared-config` of its documentation).
const SECTION: &str = "nodejs_conf";

/// Where it is told.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    /// A folder that the gate's can be mounted over.
    folder: PathBuf,
    /// OpenSSL's settings.
    settings: PathBuf,
    /// What they say.
    text: String,
    /// Whether there is a Node.js by now.
    pub(super) is_there: bool,
}

/// Adds what makes Node.js trust the authority; the answer is whether that can be done.
pub(super) fn extend(plan: &mut Plan, node: &Node, authority_pem: &str) -> bool {
    let Some(library) = node_module::library(&node.folder.join(AUTHORITY)) else { return false };
    if node.text.lines().any(|line| line.trim_start().starts_with(SECTION)) {
        tracing::warn!(
            "Node.js as its makers build it does not trust the gate: it has settings of its own ({SECTION}), in {}",
            node.settings.display()
        );
        return false;
    }
    let name = |file: &str| format!("{FOLDER}/{file}");
    plan.files.push(text(&name(AUTHORITY), authority_pem.to_owned()));
    plan.files.push(TrustFile { name: name(LIBRARY), text: None, base64: Some(BASE64.encode(library)) });
    plan.files.push(text(SETTINGS, extended(&node.text, &node.folder.join(LIBRARY))));
    // The settings last, since they name the other.
    for (file, over) in [(FOLDER, &node.folder), (SETTINGS, &node.settings)] {
        plan.mounts.push(Mount { file: file.to_owned(), over: over.clone() });
    }
    true
}

/// The settings, and in a section that only Node.js reads the library: as a provider, with which OpenSSL's own has
/// to be named too (config(5)), and by its `path` for OpenSSL 1.1, which takes `providers` for a library's name. So
/// OpenSSL 3 takes `path` for a provider's, which is why there is a section of that name that does nothing. Where
/// the library cannot be loaded, OpenSSL 3 goes on without.
fn extended(settings: &str, library: &Path) -> String {
    let library = library.display();
    format!(
        "{SECTION} = sluicegate\n\
         {settings}\n\
         [sluicegate]\n\
         providers = sluicegate_providers\n\
         [sluicegate_providers]\n\
         default = sluicegate_default\n\
         sluicegate = sluicegate_library\n\
         path = {library}\n\
         [sluicegate_default]\n\
         activate = 1\n\
         [sluicegate_library]\n\
         module = {library}\n\
         soft_load = 1\n\
         activate = 1\n\
         [{library}]\n\
         soft_load = 1\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node {
        let [folder, settings] = ["/dev/sluicegate", "/etc/ssl/openssl.cnf"].map(PathBuf::from);
        Node { folder, settings, text: text.to_owned(), is_there: true }
    }

    #[test]
    fn t02_nodes_settings_are_the_containers_and_load_one_library() {
        let mut plan = Plan::default();
        assert!(extend(&mut plan, &node("openssl_conf = own\n[own]\n"), "the authority"));
        let names: Vec<_> = plan.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["node/ca.pem", "node/node.so", "openssl.cnf"]);
        let over: Vec<_> =
            plan.mounts.iter().map(|mount| (&*mount.file, mount.over.to_str().unwrap())).collect();
        assert_eq!(over, [("node", "/dev/sluicegate"), ("openssl.cnf", "/etc/ssl/openssl.cnf")]);
        let settings = plan.files[2].text.as_ref().unwrap();
        assert!(
            settings.starts_with("nodejs_conf = sluicegate\nopenssl_conf = own\n[own]\n\n[sluicegate]\n")
        );
        assert_eq!(settings.matches("/dev/sluicegate/node.so").count(), 3);
    }

    #[test]
    fn t02_a_node_that_is_told_already_is_left_as_it_is() {
        let mut plan = Plan::default();
        assert!(!extend(&mut plan, &node("HOME = .\n  nodejs_conf = own\n"), "the authority"));
        assert!(plan.files.is_empty() && plan.mounts.is_empty());
    }
}
