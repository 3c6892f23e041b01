//! The modules of the shim, which the engine loads while it is made.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result, ensure};

/// The module that exports what the world `engine` exports.
const ENTRY: &str = "engine.js";

/// The texts of the shim, by the names that they import each other by.
#[derive(Clone)]
pub struct Modules {
    texts: BTreeMap<String, String>,
}

impl Modules {
    /// Reads the files of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let files = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let mut texts = BTreeMap::new();
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "js")) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let code = code(&text).with_context(|| format!("cannot use {}", file.display()))?;
            texts.insert(format!("./{name}"), code);
        }
        Ok(Self { texts })
    }

    /// The text of the entry, and the name that it has for errors.
    pub fn entry(&self) -> Result<(&str, &'static str)> {
        Ok((self.load(&format!("./{ENTRY}")).map_err(anyhow::Error::msg)?, ENTRY))
    }

    /// The text of a module.
    pub fn load(&self, name: &str) -> Result<&str, String> {
        self.texts.get(name).map(String::as_str).ok_or_else(|| format!("the shim has no module {name}"))
    }
}

/// A text without indentation and without lines that are comments. The interpreter keeps the text of every
/// function among what it works with: the less there is of it, the fewer pages a request writes to.
fn code(text: &str) -> Result<String> {
    let mut code = String::new();
    let mut is_comment = false;
    for line in text.lines().map(str::trim) {
        ensure!(line.matches('`').count() % 2 == 0, "a template that goes over lines is not kept: {line}");
        is_comment |= line.starts_with("/*");
        if !is_comment && !line.is_empty() && !line.starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
        is_comment &= !line.ends_with("*/");
    }
    Ok(code)
}
