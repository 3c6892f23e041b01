//! Makes `engine.wasm`, the component that JavaScript handlers run in, or checks that it is what the
//! sources beside it make.

mod initialise;
mod link;
mod modules;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use modules::Modules;

/// The component, below the folder of everything that is JavaScript here.
const ENGINE: &str = "engine.wasm";
/// Its SHA-256, in the form of `sha256sum`.
const SUM: &str = "engine.wasm.sha256";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => write().await,
        ["--check"] => check().await,
        _ => Err(anyhow::anyhow!("usage: sluicegate-javascript-generator [--check]")),
    };
    match done {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the component from the sources.
async fn make() -> Result<Vec<u8>> {
    let folder = folder();
    let modules = Modules::read(&folder.join("shim"))?;
    let linked = link::link(&folder.join("../wit"))?;
    initialise::initialise(&linked, modules).await
}

async fn write() -> Result<String> {
    let engine = make().await?;
    let sum = sum_line(&engine);
    fs::write(folder().join(ENGINE), &engine).context("cannot write the engine")?;
    fs::write(folder().join(SUM), &sum).context("cannot write the engine's sum")?;
    Ok(format!("{} bytes, imports:\n{}\n{}", engine.len(), link::imports(&engine)?, sum.trim_end()))
}

async fn check() -> Result<String> {
    let wanted = fs::read_to_string(folder().join(SUM)).context("cannot read the engine's sum")?;
    let kept = fs::read(folder().join(ENGINE)).context("cannot read the engine")?;
    if sum_line(&kept) != wanted {
        bail!("{ENGINE} is not what {SUM} says: run the generator without --check, and look at what changes");
    }
    let made = sum_line(&make().await?);
    if made != wanted {
        bail!("the sources make another engine: {} instead of {}", made.trim_end(), wanted.trim_end());
    }
    Ok(format!("{} is what the sources make", wanted.trim_end()))
}

fn sum_line(engine: &[u8]) -> String {
    let digest: String = Sha256::digest(engine).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digest}  {ENGINE}\n")
}

/// The folder `policy-plugins/javascript`.
fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
