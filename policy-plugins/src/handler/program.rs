//! A handler that runs as a program of its own, apart from the gate: JavaScript, or a component.
//!
//! Here it is data: what is run, and which of its entries. Running it is for whoever has the machine
//! for that.

use std::fmt;

use crate::content::Content;

/// How a program is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProgramKind {
    /// A JavaScript module, as text.
    JavaScript,
    /// A WebAssembly component of a world of `wit/policy.wit`.
    Component,
}

/// An entry of a program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file as the document writes it.
    pub file: Box<str>,
    /// The first 12 hexadecimal digits of the SHA-256 of its content, for logs.
    pub version: Box<str>,
    /// How it is written.
    pub kind: ProgramKind,
    /// What it consists of.
    pub content: Content,
    /// Which of its entries is run.
    pub entry: Entry,
    /// Whether it offers [`Entry::Message`] beside.
    pub judges_messages: bool,
}

/// What a program offers to be bound. Also what it is told to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// `outbound`: for all requests that it is bound to.
    Outbound,
    /// An entry of `outboundByHost`, by its pattern.
    ByHost(Box<str>),
    /// An entry of `outboundHandlers`, by its name.
    Named(Box<str>),
    /// `onConnect`, or `on-connect` of a component: for connections, before there is a request.
    Connect,
    /// `onMessage`, or `on-message` of a component: for the messages of each WebSocket that one of its
    /// handlers of requests lets through. Never bound by itself.
    Message,
}

/// What is known of a program once it has been loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// What it offers.
    pub entries: Vec<Entry>,
    /// Whether it cannot run without the right to the bytes of secrets: it imports `reveal`.
    pub needs_reveal: bool,
}

impl Exports {
    /// Whether there are messages to be asked about and no handler of requests, which alone lets WebSockets
    /// through: the function would never be called.
    #[must_use]
    pub fn has_idle_messages(&self) -> bool {
        let lets_through =
            |entry: &Entry| matches!(entry, Entry::Outbound | Entry::ByHost(_) | Entry::Named(_));
        self.entries.contains(&Entry::Message) && !self.entries.iter().any(lets_through)
    }
}

impl ProgramKind {
    /// The longest file of this kind, in bytes.
    #[must_use]
    pub fn bytes_max(self) -> usize {
        match self {
            Self::JavaScript => 1024 * 1024,
            // A component with an interpreter in it has 2 to 20 MB.
            Self::Component => 32 * 1024 * 1024,
        }
    }

    /// What a file is by the end of its name; `None` for scripts and what is no handler.
    #[must_use]
    pub fn of_file(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1 {
            "js" | "mjs" => Some(Self::JavaScript),
            "wasm" => Some(Self::Component),
            _ => None,
        }
    }
}

impl Program {
    /// The `Outbound` entry of a program with this content.
    #[must_use]
    pub fn new(file: &str, kind: ProgramKind, content: Content) -> Self {
        let version = content.digest().short();
        Self { file: file.into(), version, kind, content, entry: Entry::Outbound, judges_messages: false }
    }

    /// Another entry of the same program, which offers these.
    #[must_use]
    pub fn with_entry(&self, entry: Entry, exports: &Exports) -> Self {
        Self { entry, judges_messages: exports.entries.contains(&Entry::Message), ..self.clone() }
    }
}

impl fmt::Display for Entry {
    /// As programs are told: `outbound`, `byHost:PATTERN`, `named:NAME`, `connect`, `message`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbound => formatter.write_str("outbound"),
            Self::ByHost(pattern) => write!(formatter, "byHost:{pattern}"),
            Self::Named(name) => write!(formatter, "named:{name}"),
            Self::Connect => formatter.write_str("connect"),
            Self::Message => formatter.write_str("message"),
        }
    }
}

impl Entry {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "outbound" => Some(Self::Outbound),
            None if text == "connect" => Some(Self::Connect),
            None if text == "message" => Some(Self::Message),
            Some(("byHost", pattern)) => Some(Self::ByHost(pattern.into())),
            Some(("named", name)) => Some(Self::Named(name.into())),
            _ => None,
        }
    }
}
