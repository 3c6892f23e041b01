//! The interpreter that every script runs in: which parts of Rhai there are, and how much they may do.

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage,
    BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, OptimizationLevel};

use super::api::{self, Entry};
use super::{HandlerLimits, watch};

/// Rhai's words that scripts have no use for, and what to write instead. `Fn` and `curry` would call
/// functions by names made at run time and nest values without bound.
pub(super) const DISABLED: [(&str, &str); 9] = [
    ("eval", "a handler runs no text"),
    ("print", "use log(\"info\", message)"),
    ("debug", "use log(\"debug\", message)"),
    ("import", "a handler is one file"),
    ("export", "a handler is one file"),
    ("Fn", "write the function's name, or a function such as |x| x + 1"),
    ("curry", "write a function that takes all of its parameters"),
    ("is_def_var", "every variable is known when the script is loaded"),
    ("is_def_fn", "every function of the script is known when it is loaded"),
];

/// Nested expressions and blocks at the top level, and in a function. With `CALL_DEPTH_MAX` they bound
/// the native stack: less than 1 MiB, measured.
const DEPTH: (usize, usize) = (64, 32);
/// Variables in one call of a function.
const VARIABLES_MAX: usize = 256;
/// Functions of one script.
const FUNCTIONS_MAX: usize = 256;
/// The most entries of a map, whatever `items` says: a value nests as deep as arrays and maps
/// together have elements, and dropping it takes native stack for each level.
const MAP_ITEMS_MAX: usize = 1024;

/// An interpreter, and the description of what it offers.
pub(super) fn build(limits: &HandlerLimits) -> (Engine, Vec<Entry>) {
    let mut engine = Engine::new_raw();
    // Chosen one by one: the core package has `sleep` and `exit`.
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    for (word, _) in DISABLED {
        engine.disable_symbol(word);
    }
    let items = limits.items.min(HandlerLimits::ITEMS_MAX);
    engine
        // The optimiser takes a parameter for the constant of the same name.
        .set_optimization_level(OptimizationLevel::None)
        .set_max_call_levels(limits.call_depth.min(HandlerLimits::CALL_DEPTH_MAX))
        .set_max_expr_depths(DEPTH.0, DEPTH.1)
        .set_max_functions(FUNCTIONS_MAX)
        .set_max_variables(VARIABLES_MAX)
        // 0 would mean without bound.
        .set_max_string_size(limits.string_bytes.max(1))
        .set_max_array_size(items.max(1))
        .set_max_map_size(items.clamp(1, MAP_ITEMS_MAX))
        .on_progress(|_| (!watch::goes_on()).then_some(Dynamic::UNIT));
    let entries = api::register(&mut engine);
    (engine, entries)
}
