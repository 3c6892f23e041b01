//! Where commands load the programs of a document, and what they say while one is compiled.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sluicegate_wasm::Programs;

use super::note;
use crate::audit::view::Escaped;

/// The option that names where compiled programs are kept.
///
/// There is no folder by default: what lies there runs as code of whoever calls, and under `run` a
/// workload has the same user.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CompiledChoice {
    /// Keep what handlers are compiled to in this state folder, and look for it there
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl CompiledChoice {
    /// What loads programs. Of one that is compiled for a while, standard error tells.
    pub(crate) fn programs(&self) -> Arc<Programs> {
        let cache = self.state.as_ref().map(|folder| folder.join("programs"));
        Programs::telling(cache, Box::new(|file| note(&format!("compiling {} ...", Escaped(file)))))
    }
}
