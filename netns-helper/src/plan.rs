//! What the gate wants the workload to see: trust files, hidden files, environment. Pure.
//!
//! **Invariant:** a parsed plan names files by a name, or by a folder's and a name, and everything else by
//! absolute paths, so that nothing depends on the folder in which it is carried out.

use crate::failure::{Failure, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

const STEP: &str = "plan";

/// The gate's "go", checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Name and content of each file of the trust folder.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// An existing folder; a small read-only file system with `files` goes over it.
    pub(crate) trust_dir: PathBuf,
    /// Which of `files` to lay over which existing file.
    pub(crate) mounts: Vec<Mount>,
    /// Files and sockets that shall read as empty, where they exist.
    pub(crate) hide_files: Vec<PathBuf>,
    /// Folders that shall read as empty, where they exist.
    pub(crate) hide_dirs: Vec<PathBuf>,
    /// Files and folders that shall be readable only.
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) set_env: BTreeMap<String, String>,
    pub(crate) remove_env: Vec<String>,
}

/// One trust file over one existing file, or a folder of them over a folder.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) file: String,
    pub(crate) over: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    files: Vec<TrustFile>,
    trust_dir: PathBuf,
    #[serde(default)]
    mounts: Vec<Mount>,
    #[serde(default)]
    hide_files: Vec<PathBuf>,
    #[serde(default)]
    hide_dirs: Vec<PathBuf>,
    #[serde(default)]
    read_only: Vec<PathBuf>,
    #[serde(default)]
    set_env: BTreeMap<String, String>,
    #[serde(default)]
    remove_env: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    name: String,
    text: Option<String>,
    base64: Option<String>,
}

impl Plan {
    /// Reads the JSON line.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Failure> {
        let text: Text =
            serde_json::from_slice(line).map_err(|error| refused(format!("it does not parse: {error}")))?;
        let files = text.files.into_iter().map(content).collect::<Result<Vec<_>, _>>()?;
        let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() != files.len() {
            return Err(refused("two files have one name".into()));
        }
        let folders: BTreeSet<&str> =
            names.iter().filter_map(|name| name.split_once('/')).map(|(folder, _)| folder).collect();
        let is_known = |mount: &Mount| [&names, &folders].iter().any(|set| set.contains(mount.file.as_str()));
        if let Some(unknown) = text.mounts.iter().find(|mount| !is_known(mount)) {
            return Err(refused(format!(
                "mounts names the file {:?}, which files does not have",
                unknown.file
            )));
        }
        let paths = [&text.trust_dir].into_iter().chain(text.mounts.iter().map(|mount| &mount.over));
        for path in paths.chain(&text.hide_files).chain(&text.hide_dirs).chain(&text.read_only) {
            if !path.is_absolute() {
                return Err(refused(format!("{} is not an absolute path", path.display())));
            }
        }
        if let Some(above) = text.hide_dirs.iter().find(|hidden| text.trust_dir.starts_with(hidden)) {
            return Err(refused(format!("hiding {} would hide the trust folder", above.display())));
        }
        if let Some(name) = text.set_env.keys().chain(&text.remove_env).find(|name| !is_variable(name)) {
            return Err(refused(format!("{name:?} cannot be the name of a variable")));
        }
        Ok(Self {
            files,
            trust_dir: text.trust_dir,
            mounts: text.mounts,
            hide_files: text.hide_files,
            hide_dirs: text.hide_dirs,
            read_only: text.read_only,
            set_env: text.set_env,
            remove_env: text.remove_env,
        })
    }
}

fn content(file: TrustFile) -> Result<(String, Vec<u8>), Failure> {
    // Names with a leading dot are ours.
    let is_name = |part: &str| {
        let mut components = Path::new(part).components();
        matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == part)
            && !part.starts_with('.')
    };
    let (folder, name) = file.name.split_once('/').unzip();
    if !folder.into_iter().chain([name.unwrap_or(&file.name)]).all(is_name) {
        return Err(refused(format!("{:?} cannot be the name of a file", file.name)));
    }
    let bytes = match (file.text, file.base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(coded)) => STANDARD
            .decode(coded)
            .map_err(|error| refused(format!("{:?} is not base64: {error}", file.name)))?,
        _ => {
            return Err(refused(format!("{:?} needs either text or base64", file.name)));
        }
    };
    Ok((file.name, bytes))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn refused(what: String) -> Failure {
    Failure::new(Kind::Internal, STEP, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        Plan::parse(line.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_plan_is_read() {
        let plan = Plan::parse(
            br#"{"files":[{"name":"ca.pem","text":"PEM"},{"name":"cacerts","base64":"AAE="}],"trust_dir":"/run/t",
                "mounts":[{"file":"ca.pem","over":"/etc/ssl/ca.crt"}],"hide_files":["/a"],"hide_dirs":["/b"],
                "read_only":["/c"],"set_env":{"K":"V"},"remove_env":["TOKEN"]}"#,
        )
        .unwrap();
        assert_eq!(plan.files, [("ca.pem".into(), b"PEM".to_vec()), ("cacerts".into(), vec![0, 1])]);
        assert_eq!(plan.mounts, [Mount { file: "ca.pem".into(), over: "/etc/ssl/ca.crt".into() }]);
        assert_eq!(plan.set_env["K"], "V");
        assert_eq!(plan.remove_env, ["TOKEN"]);
    }

    #[test]
    fn the_trust_folder_alone_is_enough() {
        assert!(Plan::parse(br#"{"trust_dir":"/run/t"}"#).unwrap().files.is_empty());
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["", ".", "..", "a/b/c", "/a", "a/", ".empty", "../a", "a/..", "a/.empty", ".a/b", "a//b"]
        {
            let line = format!(r#"{{"trust_dir":"/t","files":[{{"name":"{name}","text":""}}]}}"#);
            assert!(refusal(&line).contains("cannot be the name of a file"), "{name}");
        }
    }

    #[test]
    fn a_folder_of_files_is_mounted_by_its_name() {
        let plan = |file: &str| {
            let mounts = format!(r#"[{{"file":"{file}","over":"/c"}}]"#);
            let line =
                format!(r#"{{"trust_dir":"/t","files":[{{"name":"a/b","text":""}}],"mounts":{mounts}}}"#);
            Plan::parse(line.as_bytes())
        };
        assert_eq!(plan("a").unwrap().mounts, [Mount { file: "a".into(), over: "/c".into() }]);
        assert!(plan("a/b").is_ok() && plan("b").is_err() && plan("").is_err());
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        assert!(refusal(r#"{"trust_dir":"t"}"#).contains("absolute"));
        assert!(
            refusal(r#"{"trust_dir":"/t/u","hide_dirs":["/t"]}"#).contains("would hide the trust folder")
        );
        assert!(
            refusal(r#"{"trust_dir":"/t","mounts":[{"file":"x","over":"/y"}]}"#).contains("does not have")
        );
        assert!(refusal(r#"{"trust_dir":"/t","set_env":{"A=B":""}}"#).contains("variable"));
        assert!(refusal(r#"{"trust_dir":"/t","files":[{"name":"x"}]}"#).contains("either text or base64"));
        assert!(refusal(r#"{"trust_dir":"/t","hidden":[]}"#).contains("unknown field"));
    }
}
