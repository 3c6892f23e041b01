//! The machine that programs run on: an engine of wasmtime's, and places for instances.

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
    WasmBacktraceDetails,
};

use crate::limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::threads::Threads;

/// Instances that live at once on one machine; further requests wait until one ends.
const PLACES: u32 = 64;
/// The most memory that a document can allow a program, in bytes.
pub(crate) const MEMORY_MAX: usize = 256 << 20;
/// What a place keeps of a memory from one instance to the next, in bytes: pages that were written are
/// cleared, and need not be taken anew. More than one request of any language writes to; less than would
/// hurt if all places had it.
const KEPT_MEMORY: usize = 4 << 20;
/// The same of its tables.
const KEPT_TABLES: usize = 64 << 10;
/// The stack of a program, in bytes.
const PROGRAM_STACK: usize = 1 << 20;
/// The stack of a program with that of the host functions above it.
const WHOLE_STACK: usize = 2 << 20;

/// What a program of a kind needs beyond the basic component model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Calls return when they are done: components.
    Synchronous,
    /// Calls are tasks: our engine of JavaScript, whose promises need it.
    Asynchronous,
}

/// An engine with the places for its instances.
pub(crate) struct Machine {
    pub(crate) engine: Engine,
    pub(crate) places: Semaphore,
    pub(crate) threads: Arc<Threads>,
}

impl Machine {
    /// An engine of its own. Nothing runs yet.
    ///
    /// # Errors
    /// The processor or the system lacks what it needs.
    pub(crate) fn new(threads: &Arc<Threads>, calls: Calls) -> Result<Self> {
        let engine = Engine::new(&pooled(calls)).or_else(|error| {
            tracing::warn!(%error, "no address space for a pool of instances: programs start more slowly");
            Engine::new(&on_demand(calls))
        })?;
        threads.ticker.add(&engine);
        let places = Semaphore::new(PLACES as usize);
        Ok(Self { engine, places, threads: Arc::clone(threads) })
    }
}

fn config(calls: Calls) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(calls == Calls::Asynchronous)
        .epoch_interruption(true)
        .max_wasm_stack(PROGRAM_STACK)
        .async_stack_size(WHOLE_STACK)
        .wasm_memory64(false)
        .wasm_backtrace_max_frames(None)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false);
    config
}

fn pooled(calls: Calls) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    // One more, for a program that is being loaded.
    let places = PLACES + 1;
    pool.total_component_instances(places)
        .total_core_instances(places * CORE_INSTANCES_MAX)
        .total_memories(places * MEMORIES_MAX)
        .total_tables(places * TABLES_MAX)
        // One to instantiate or call on, one for a task within.
        .total_stacks(places * 2)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_component_instance_size(8 << 20)
        .max_core_instance_size(4 << 20)
        .max_memory_size(MEMORY_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_unused_warm_slots(places);
    // Without this call of the kernel's all that is kept would be cleared, written or not.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(KEPT_MEMORY)
            .table_keep_resident(KEPT_TABLES);
    }
    let mut config = config(calls);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Memory as each instance grows, with its bounds checked in code: for small address spaces.
fn on_demand(calls: Calls) -> Config {
    let mut config = config(calls);
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(0)
        .memory_guard_size(0)
        .memory_reservation_for_growth(1 << 20);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_machine_can_be_made_without_a_pool() {
        for calls in [Calls::Synchronous, Calls::Asynchronous] {
            assert!(Engine::new(&on_demand(calls)).is_ok(), "{calls:?}");
        }
    }
}
