//! Where compiling gets the files from that a document names.

/// Gives the bytes of a handler's file; compiling itself opens nothing.
pub trait Sources {
    /// Reads a file. `path` is as the document writes it; a relative one counts from the document's
    /// folder.
    ///
    /// # Errors
    /// Why not, in words that follow "cannot be read:".
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// Has no file: for documents without handlers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSources;

impl Sources for NoSources {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        Err(String::from("handlers are not read here"))
    }
}
