//! The languages, and the file that the conformance handler is in each of them.

use std::fmt;
use std::fs;
use std::path::Path;

use e2e::World;

/// What a handler can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    /// A script that the gate interprets.
    Rhai,
    /// A text that our engine of JavaScript runs.
    JavaScript,
    /// A component compiled from Rust.
    Rust,
    /// A component with an interpreter of Python in it.
    Python,
}

/// Makes a test of each function for each language: each runs in a process of its own.
macro_rules! in_every_language {
    ($($test:ident)*) => {
        mod rhai {
            $(#[test] fn $test() { super::$test($crate::language::Language::Rhai); })*
        }
        mod javascript {
            $(#[test] fn $test() { super::$test($crate::language::Language::JavaScript); })*
        }
        mod rust {
            $(#[test] fn $test() { super::$test($crate::language::Language::Rust); })*
        }
        mod python {
            $(#[test] fn $test() { super::$test($crate::language::Language::Python); })*
        }
    };
}

impl Language {
    pub(crate) const ALL: [Self; 4] = [Self::Rhai, Self::JavaScript, Self::Rust, Self::Python];

    /// The conformance handler as a policy of this world names it.
    pub(crate) fn handler(self) -> &'static str {
        match self {
            Self::Rhai => "handlers/all.rhai",
            Self::JavaScript => "handlers/all.js",
            Self::Rust => "handlers/rust.wasm",
            Self::Python => "handlers/python.wasm",
        }
    }

    /// Writes the conformance handler to where policies of this world name it.
    pub(crate) fn place(self, world: &World) {
        world.file(self.handler(), self.read());
    }

    /// The same for one that may ask for the bytes of secrets: a component says so by what it imports.
    /// Returns how policies name it.
    pub(crate) fn place_revealing(self, world: &World) -> &'static str {
        let (name, built) = match self {
            Self::Rhai | Self::JavaScript => return self.handler(),
            Self::Rust => ("handlers/rust-reveal.wasm", "target/guests/conformance-rust-reveal.wasm"),
            Self::Python => ("handlers/python-reveal.wasm", "target/guests/conformance-python-reveal.wasm"),
        };
        world.file(name, self.read_file(built));
        name
    }

    /// The same for the handler of connections.
    pub(crate) fn place_connecting(self, world: &World) -> &'static str {
        let (name, path) = match self {
            Self::Rhai => ("handlers/connect.rhai", "tests/e2e/conformance/handlers/on_connect.rhai"),
            Self::JavaScript => ("handlers/connect.js", "tests/e2e/conformance/handlers/on_connect.js"),
            Self::Rust => ("handlers/rust-connect.wasm", "target/guests/conformance-rust-connect.wasm"),
            Self::Python => ("handlers/python-connect.wasm", "target/guests/conformance-python-connect.wasm"),
        };
        world.file(name, self.read_file(path));
        name
    }

    /// The same for the handler of messages.
    pub(crate) fn place_judging(self, world: &World) -> &'static str {
        let (name, path) = match self {
            Self::Rhai => ("handlers/message.rhai", "tests/e2e/conformance/handlers/on_message.rhai"),
            Self::JavaScript => ("handlers/message.js", "tests/e2e/conformance/handlers/on_message.js"),
            Self::Rust => ("handlers/rust-message.wasm", "target/guests/conformance-rust-message.wasm"),
            Self::Python => ("handlers/python-message.wasm", "target/guests/conformance-python-message.wasm"),
        };
        world.file(name, self.read_file(path));
        name
    }

    /// The bytes of the conformance handler. Fails the test where it was not built.
    #[track_caller]
    pub(crate) fn read(self) -> Vec<u8> {
        self.read_file(match self {
            Self::Rhai => "tests/e2e/conformance/handlers/all.rhai",
            Self::JavaScript => "tests/e2e/conformance/handlers/all.js",
            Self::Rust => "target/guests/conformance-rust.wasm",
            Self::Python => "target/guests/conformance-python.wasm",
        })
    }

    /// A handler of this language that cannot be loaded.
    pub(crate) fn broken(self) -> Vec<u8> {
        match self {
            Self::Rhai => b"fn outbound(request, env, ctx) {\n    reply(200\n}\n".to_vec(),
            Self::JavaScript => {
                b"export default {\n  outbound(request) { return new Response(; },\n};\n".to_vec()
            }
            // A file that was not copied to its end.
            Self::Rust | Self::Python => {
                let whole = self.read();
                whole[..whole.len() / 2].to_vec()
            }
        }
    }

    #[track_caller]
    fn read_file(self, path: &str) -> Vec<u8> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path);
        fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}: {}", file.display(), self.build()))
    }

    fn build(self) -> &'static str {
        match self {
            Self::Rhai | Self::JavaScript => "it is part of the repository",
            Self::Rust => "build it with scripts/rust-guests",
            Self::Python => "build it with scripts/python-guests",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Rhai => "Rhai",
            Self::JavaScript => "JavaScript",
            Self::Rust => "Rust",
            Self::Python => "Python",
        })
    }
}
