//! Compiles `[handler_limits]`.

use std::time::Duration;

use toml::Spanned;

use crate::document::HandlerLimitsEntry;
use crate::error::Findings;
use crate::handler::HandlerLimits;

/// More than [`CPU_MS_MAX`] has time for, at some 20 ns each: who counts by time alone can.
const OPERATIONS_MAX: u64 = 1_000_000_000;
/// A string, and a body in memory.
const MEMORY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Each effect runs the handler once more from its beginning.
const EFFECTS_MAX: u64 = 1_000;
/// Each line stands in the audit log.
const LOG_LINES_MAX: u64 = 1_000;
/// A handler that needs more is no filter any more.
const CPU_MS_MAX: u64 = 10_000;
/// In MiB. More is no filter any more, and the address space of all instances is reserved at once.
const MEMORY_MIB_MAX: u64 = 256;
/// An hour, as of any timeout.
const WALL_MS_MAX: u64 = 3_600_000;

pub(super) fn compile(entry: &HandlerLimitsEntry, findings: &mut Findings<'_>) -> HandlerLimits {
    let mut bounded = Bounded { findings };
    let default = HandlerLimits::default();
    let cpu = bounded.number(entry.cpu_ms.as_ref(), CPU_MS_MAX);
    let memory = bounded.number(entry.memory_mib.as_ref(), MEMORY_MIB_MAX);
    let milliseconds = |number: Option<u64>, default| number.map_or(default, Duration::from_millis);
    HandlerLimits {
        operations: bounded.number(entry.operations.as_ref(), OPERATIONS_MAX).unwrap_or(default.operations),
        call_depth: bounded.size(
            entry.call_depth.as_ref(),
            HandlerLimits::CALL_DEPTH_MAX as u64,
            default.call_depth,
        ),
        string_bytes: bounded.size(entry.string_bytes.as_ref(), MEMORY_BYTES_MAX, default.string_bytes),
        items: bounded.size(entry.items.as_ref(), HandlerLimits::ITEMS_MAX as u64, default.items),
        effects: bounded.size(entry.effects.as_ref(), EFFECTS_MAX, default.effects),
        body_bytes: bounded.size(entry.body_bytes.as_ref(), MEMORY_BYTES_MAX, default.body_bytes),
        log_lines: bounded.size(entry.log_lines.as_ref(), LOG_LINES_MAX, default.log_lines),
        cpu: milliseconds(cpu, default.cpu),
        program_cpu: milliseconds(cpu, default.program_cpu),
        memory: memory.and_then(|mib| usize::try_from(mib << 20).ok()).unwrap_or(default.memory),
        wall: milliseconds(bounded.number(entry.wall_ms.as_ref(), WALL_MS_MAX), default.wall),
    }
}

struct Bounded<'findings, 'text> {
    findings: &'findings mut Findings<'text>,
}

impl Bounded<'_, '_> {
    /// A number from 1 to `max`, if one is written and fits.
    fn number(&mut self, written: Option<&Spanned<u64>>, max: u64) -> Option<u64> {
        let written = written?;
        let number = *written.get_ref();
        if (1..=max).contains(&number) {
            return Some(number);
        }
        self.findings
            .error(written.span(), format!("a limit of {number} is out of bounds"))
            .help(format!("write a number from 1 to {max}"));
        None
    }

    fn size(&mut self, written: Option<&Spanned<u64>>, max: u64, default: usize) -> usize {
        self.number(written, max).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    }
}
