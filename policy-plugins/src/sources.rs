//! Where compiling gets the files from that a document names, and what is known of those that run as
//! programs.

use crate::content::Content;
use crate::handler::{Exports, Program, ScriptProblem};

/// Gives the bytes of a handler's file; compiling itself opens nothing.
pub trait Sources {
    /// Reads a file. `path` is as the document writes it; a relative one counts from the document's
    /// folder.
    ///
    /// # Errors
    /// Why not, in words that follow "cannot be read:".
    fn read(&self, path: &str) -> Result<Content, String>;

    /// Loads a program as it will be run, and tells what it offers.
    ///
    /// # Errors
    /// Why it cannot be run, with the place in its text where there is one.
    fn program(&self, program: &Program) -> Result<Exports, ScriptProblem>;
}

/// Has no file: for documents without handlers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSources;

impl Sources for NoSources {
    fn read(&self, _path: &str) -> Result<Content, String> {
        Err(String::from("handlers are not read here"))
    }

    fn program(&self, _program: &Program) -> Result<Exports, ScriptProblem> {
        Err(ScriptProblem { message: String::from("programs are not run here"), at: 0..0, help: None })
    }
}
