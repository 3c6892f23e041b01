//! The command line of `run --docker` and `run --podman`.

use std::ffi::OsString;
use std::io::{self, Write};

use serde_json::Value;

use super::{AnnounceOptions, InstanceOptions, SealOptions, parse_name};
use crate::container::Engine;
use crate::engine_run::{self, EngineRunError, Wanted};
use crate::instance::random;
use crate::report;

/// Runs a container behind a gate; returns the exit code.
pub(super) fn run(
    container: (Engine, Vec<OsString>),
    instance: InstanceOptions,
    trust: bool,
    announce: &AnnounceOptions,
) -> u8 {
    engine_run::ended(sealed(container, instance, trust, announce))
}

fn sealed(
    (engine, arguments): (Engine, Vec<OsString>),
    mut instance: InstanceOptions,
    trust: bool,
    announce: &AnnounceOptions,
) -> Result<u8, EngineRunError> {
    if instance.log.as_deref() == Some("-".as_ref()) {
        return Err(EngineRunError::Log);
    }
    let wanted = Wanted::read(engine, arguments, trust)?;
    let name = match instance.name.take().or_else(|| parse_name(wanted.name()?).ok()) {
        Some(name) => name,
        None => {
            let number =
                random().map_err(|error| EngineRunError::System("choose a name", io::Error::other(error)))?;
            format!("sg-{number:08x}")
        }
    };
    instance.container_id.get_or_insert_with(|| name.clone());
    instance.name = Some(name.clone());
    let options = SealOptions { instance, ca_file: None, trust: false }.arguments();
    let options = options.map_err(|error| EngineRunError::System("make a path absolute", error))?;
    engine_run::run(wanted, &name, &options, |ready| tell(ready, announce))
}

fn tell(ready: &Value, options: &AnnounceOptions) {
    if options.json {
        drop(writeln!(io::stderr(), "{ready}"));
    } else if !options.quiet {
        report::serving(ready);
    }
}
