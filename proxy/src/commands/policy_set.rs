//! `sluicegate policy set` and `reset`: which policy a running instance has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::json;
use sluicegate_policy::{Content, ProgramKind};

use super::client::Client;
use super::compiled::CompiledChoice;
use super::error::CommandError;
use super::host::published;
use super::select::InstanceChoice;
use super::{print, print_json};

use crate::audit::view::Escaped;
use crate::control::api::{Published, Status, UploadedPolicy};
use crate::document::Bundle;
use crate::{exit, report};

/// The options of `policy set`.
#[derive(Args, Debug)]
pub(crate) struct SetOptions {
    /// The document
    file: PathBuf,
    /// Check the document here and compare it with what is in force; change nothing
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    compiled: CompiledChoice,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what came of it as one JSON object
    #[arg(long)]
    json: bool,
}

/// The options of `policy reset`.
#[derive(Args, Debug)]
pub(crate) struct ResetOptions {
    /// Take back what `host` and `handler` have changed as well
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    choice: InstanceChoice,
    /// Print what came of each change as one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn set(options: &SetOptions) -> Result<u8, CommandError> {
    // Whoever makes a mistake sees it here, with carets, and the instance does not.
    let (bundle, compiled) = Bundle::read(&options.file, &options.compiled.programs())?;
    let client = options.choice.client()?;
    if options.check {
        let status: Status = client.get("/v1/status")?;
        report::warnings(&compiled.warnings);
        return checked(&status, compiled.policy.generation(), options.json);
    }
    published(&publish(&client, bundle)?, options.json)?;
    Ok(exit::OK)
}

pub(crate) fn reset(options: &ResetOptions) -> Result<u8, CommandError> {
    let client = options.choice.client()?;
    let paths: &[&str] = if options.all { &["/v1/policy", "/v1/overrides"] } else { &["/v1/policy"] };
    for path in paths {
        let done: Published = client.call(Method::DELETE, path)?;
        published(&done, options.json)?;
    }
    Ok(exit::OK)
}

fn checked(status: &Status, generation: &str, as_json: bool) -> Result<u8, CommandError> {
    let Status { generation: now, overridden, .. } = status;
    if as_json {
        print_json(&json!({ "ok": true, "generation": now, "new": generation, "overridden": overridden }))?;
    } else {
        let changes = if *overridden { ", and what was changed at run time stays" } else { "" };
        print(format_args!("ok: policy {} -> {generation}{changes}; not set\n", Escaped(now)))?;
    }
    Ok(exit::OK)
}

/// Puts a policy in force, and sends those of its components that the instance does not have.
fn publish(client: &Client, bundle: Bundle) -> Result<Published, CommandError> {
    let (policy, components) = upload(bundle)?;
    let put = || client.send(Method::PUT, "/v1/policy", &policy);
    let missing = match put() {
        Err(CommandError::Refused(problem)) if !problem.missing.is_empty() => problem.missing,
        done => return done,
    };
    for (sha256, content) in components {
        if missing.contains(&sha256) {
            client.put_bytes(&format!("/v1/components/{sha256}"), content.to_vec().into())?;
        }
    }
    put()
}

/// What is sent, and the components by the SHA-256 that they have in it.
fn upload(bundle: Bundle) -> Result<(UploadedPolicy, BTreeMap<String, Content>), CommandError> {
    let Bundle { file, document, scripts } = bundle;
    let (mut texts, mut sums, mut components) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (path, content) in scripts {
        if ProgramKind::of_file(&path) == Some(ProgramKind::Component) {
            sums.insert(path, content.sha256_hex());
            components.insert(content.sha256_hex(), content);
            continue;
        }
        let Ok(text) = String::from_utf8(content.to_vec()) else {
            return Err(CommandError::Usage(format!("{path} is not UTF-8")));
        };
        texts.insert(path, text);
    }
    Ok((UploadedPolicy { file, document, scripts: texts, components: sums }, components))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(script: &[u8]) -> Bundle {
        Bundle {
            file: "/p/policy.toml".into(),
            document: "version = 1".into(),
            scripts: BTreeMap::from([("h.rhai".to_owned(), script.into())]),
        }
    }

    #[test]
    fn the_scripts_go_with_the_document_and_components_by_their_sums() {
        let mut bundle = bundle(b"fn outbound(r, e, c) {}");
        let component = Content::from(b"\0asm".as_slice());
        bundle.scripts.insert("c.wasm".into(), component.clone());
        let (upload, components) = upload(bundle).unwrap();
        assert_eq!(upload.components.get("c.wasm"), Some(&component.sha256_hex()));
        assert_eq!(components, BTreeMap::from([(component.sha256_hex(), component)]));
        assert_eq!(upload.file, PathBuf::from("/p/policy.toml"));
        assert_eq!(upload.document, "version = 1");
        assert_eq!(upload.scripts.get("h.rhai").unwrap(), "fn outbound(r, e, c) {}");
    }

    #[test]
    fn a_script_that_is_no_text_does_not() {
        let error = upload(bundle(&[0xff])).unwrap_err();
        assert_eq!(error.to_string(), "h.rhai is not UTF-8");
    }
}
