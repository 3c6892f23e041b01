//! What an instance may have of memory, tables and instances.

use wasmtime::{Error, ResourceLimiter, Result};

/// The most elements that one table may have. A large program in C++ has some ten thousand.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// The most core instances of a component: one of JavaScript has a dozen.
pub(crate) const CORE_INSTANCES_MAX: u32 = 40;
/// The most memories of a component.
pub(crate) const MEMORIES_MAX: u32 = 4;
/// The most tables of a component.
pub(crate) const TABLES_MAX: u32 = 20;

/// Counts what one instance has, and ends it where it wants more. It is part of what a store holds.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// Bytes that all its memories together may have.
    memory: usize,
    /// Bytes that they have.
    used: usize,
    exceeded: Option<String>,
}

impl Limiter {
    /// For an instance that may have this many bytes of memory.
    pub(crate) fn new(memory: usize) -> Self {
        Self { memory, used: 0, exceeded: None }
    }

    /// Which limit ended the instance, if one did.
    pub(crate) fn exceeded(&self) -> Option<&str> {
        self.exceeded.as_deref()
    }

    fn refuse(&mut self, message: String) -> Result<bool> {
        let error = Error::msg(message.clone());
        self.exceeded = Some(message);
        // A growth that just fails would look to the author like a fault of the allocator.
        Err(error)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.memory {
            let mebibytes = self.memory >> 20;
            return self.refuse(format!("more than {mebibytes} MiB of memory: see memory_mib"));
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            return self.refuse(format!("a table of more than {TABLE_ELEMENTS_MAX} elements"));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together() {
        let mut limiter = Limiter::new(2 << 20);
        assert!(limiter.memory_growing(0, 1 << 20, None).unwrap());
        assert!(limiter.memory_growing(0, 1 << 20, None).unwrap());
        assert!(limiter.exceeded().is_none());
        assert!(limiter.memory_growing(1 << 20, (1 << 20) + 1, None).is_err());
        assert_eq!(limiter.exceeded(), Some("more than 2 MiB of memory: see memory_mib"));
    }

    #[test]
    fn a_table_has_an_end() {
        let mut limiter = Limiter::new(0);
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX, None).unwrap());
        assert!(limiter.table_growing(0, TABLE_ELEMENTS_MAX + 1, None).is_err());
        assert!(limiter.exceeded().is_some());
    }
}
