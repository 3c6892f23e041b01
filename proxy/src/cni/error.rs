//! What goes wrong, as runtimes are told of it.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::background::StartError;
use crate::causes::in_words;

/// Why a plugin's call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CniError {
    /// The configuration is of a version that this does not understand.
    #[error("the configuration's cniVersion is {0:?}")]
    Version(String),
    /// A variable is missing or wrong.
    #[error("{0}")]
    Environment(String),
    /// The configuration did not come.
    #[error("the configuration on standard input cannot be read: {0}")]
    Input(String),
    /// It is no JSON, or of another shape.
    #[error("the configuration is not understood")]
    Shape(#[source] serde_json::Error),
    /// Its `arguments` are wrong.
    #[error("the configuration's arguments are wrong: {0}")]
    Configuration(String),
    /// Something of the system's failed.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// No gate can be started.
    #[error("cannot use {}", .0.display())]
    Unavailable(PathBuf, #[source] io::Error),
    /// A gate was started and does not serve.
    #[error("the pod has no gate")]
    Gate(#[source] StartError),
    /// There is no gate any more.
    #[error("no gate named {0:?} serves the pod: nothing leaves it")]
    NoGate(String),
}

impl CniError {
    /// The code that the specification has for it; from 100 on they are ours.
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) => 1,
            Self::Environment(_) => 4,
            Self::Input(_) | Self::System(..) => 5,
            Self::Shape(_) => 6,
            Self::Configuration(_) => 7,
            Self::Unavailable(..) => 50,
            Self::Gate(_) => 100,
            Self::NoGate(_) => 101,
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Version(_) => "use \"1.0.0\" or \"1.1.0\"".into(),
            Self::Gate(error) => {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                format!("{}{hint}", in_words(error))
            }
            Self::Configuration(_) => {
                "\"arguments\" is a list of options of `sluicegate attach`, such as \"--policy=/etc/pods.toml\""
                    .into()
            }
            Self::Unavailable(..) => "install sluicegate-netns in the folder of sluicegate".into(),
            _ => String::new(),
        }
    }

    /// The object that is printed (CNI specification, "Error").
    pub(super) fn answer(&self, version: &str) -> Value {
        let message = match self {
            // What the gate said is in the details.
            Self::Gate(_) => self.to_string(),
            _ => in_words(self),
        };
        json!({"cniVersion": version, "code": self.code(), "msg": message, "details": self.details()})
    }
}
