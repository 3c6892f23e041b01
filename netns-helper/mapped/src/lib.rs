//! What the gate maps into its memory from files: programs that were compiled earlier, and its own program.
//!
//! Both need a line of `unsafe`, which the other crates of the gate forbid; so does the check that makes it right,
//! which is why that is here, too.

mod compiled;
mod own_program;
mod sums;

pub use compiled::{CompiledPrograms, Origin};
pub use own_program::let_go_of_code;
