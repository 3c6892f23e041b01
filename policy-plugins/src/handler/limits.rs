//! What a handler may use up.

use std::time::Duration;

/// Bounds of one handler run for one request: `[handler_limits]` of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerLimits {
    /// Steps of the interpreter, over all runs of the request.
    pub operations: u64,
    /// Nested calls; at most [`Self::CALL_DEPTH_MAX`] count.
    pub call_depth: usize,
    /// Bytes of a string or a blob that a script makes.
    pub string_bytes: usize,
    /// Elements of an array, nested ones counted in; at most [`Self::ITEMS_MAX`] count. Entries of a
    /// map: the same, at most 1,024.
    pub items: usize,
    /// Effects: fetches, stored values, bodies, questions to a person.
    pub effects: usize,
    /// Bytes of a body that a script takes into memory.
    pub body_bytes: usize,
    /// Lines that a script logs.
    pub log_lines: usize,
    /// Processor time of a script, over all runs of the request.
    pub cpu: Duration,
    /// Processor time of a program: JavaScript or a component. After its answer, anew for each piece of a
    /// body that it reads.
    pub program_cpu: Duration,
    /// Bytes of memory that a program may have.
    pub memory: usize,
    /// From the request to its response's head, waits for a person not counted.
    pub wall: Duration,
}

impl HandlerLimits {
    /// The most nested calls: what the stack of a thread holds.
    pub const CALL_DEPTH_MAX: usize = 32;
    /// The most elements of an array: values nest as deep as they have elements.
    pub const ITEMS_MAX: usize = 4_096;
}

impl Default for HandlerLimits {
    fn default() -> Self {
        Self {
            // 20 to 40 ns each: about what the processor time allows.
            operations: 200_000,
            call_depth: 32,
            string_bytes: 256 * 1024,
            items: 4_096,
            effects: 32,
            body_bytes: 1024 * 1024,
            log_lines: 64,
            cpu: Duration::from_millis(5),
            // A fresh instance takes 0.03 to 2 ms; the first one of a large component 15.
            program_cpu: Duration::from_millis(50),
            memory: 64 * 1024 * 1024,
            wall: Duration::from_secs(30),
        }
    }
}
