//! Runs the engine's start-up once and keeps what came of it: the interpreter with the shim loaded.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Instance, LinkerInstance, Lower, ResourceType};
use wasmtime::{Config, Engine, Store};
use wasmtime_wizer::{WasmtimeWizerComponent, Wizer};

use crate::link::Linked;
use crate::modules::Modules;

type Linker = wasmtime::component::Linker<()>;

/// `datetime` of wasi:clocks.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// The component as it is after its start-up. What it could take from the machine (time, chance, the
/// environment) is fixed, so that the same sources make the same bytes.
pub async fn initialise(linked: &Linked, modules: Modules) -> Result<Vec<u8>> {
    let mut config = Config::new();
    config.wasm_component_model_async(true).wasm_component_model_map(true);
    let engine = Engine::new(&config).map_err(anyhow::Error::from)?;

    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(&linked.component)?;
    let component = Component::new(&engine, &instrumented)?;
    let mut store = Store::new(&engine, ());
    let instance = start(&engine, &component, &modules)?.instantiate_async(&mut store, &component).await?;
    run_entry(&mut store, &instance, &linked.types, &modules).await?;
    let mut initialised = WasmtimeWizerComponent { store: &mut store, instance };
    Ok(wizer.snapshot_component(context, &mut initialised).await?)
}

/// Everything that the start-up may call; the rest traps.
fn start(engine: &Engine, component: &Component, modules: &Modules) -> Result<Linker> {
    let modules = Arc::new(modules.clone());
    let mut linker = Linker::new(engine);
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        let mut instance = linker.instance(name)?;
        for (item, export) in interface.exports(engine) {
            match export.ty {
                ComponentItem::ComponentFunc(_) => define(&mut instance, name, item, &modules)?,
                ComponentItem::Resource(_) => {
                    instance.resource(item, ResourceType::host::<()>(), |_, _| Ok(()))?;
                }
                _ => {}
            }
        }
    }
    Ok(linker)
}

fn define(
    instance: &mut LinkerInstance<'_, ()>,
    interface: &str,
    function: &str,
    modules: &Arc<Modules>,
) -> Result<()> {
    let modules = Arc::clone(modules);
    // The versions of WASI's interfaces are the adapter's.
    match (interface.split('@').next().unwrap_or_default(), function) {
        ("wasi:random/insecure-seed", "insecure-seed") => {
            instance.func_wrap(function, |_, (): ()| Ok(((1_u64, 2_u64),)))
        }
        ("wasi:cli/environment", "get-environment") => {
            instance.func_wrap(function, |_, (): ()| Ok((Vec::<(String, String)>::new(),)))
        }
        ("wasi:clocks/monotonic-clock", "now") => instance.func_wrap(function, |_, (): ()| Ok((1_u64,))),
        ("wasi:clocks/wall-clock", "now") => {
            instance.func_wrap(function, |_, (): ()| Ok((Datetime { seconds: 1, nanoseconds: 0 },)))
        }
        ("local:init/module-loader", "resolve") => instance
            .func_wrap(function, |_, (_referrer, name): (String, String)| Ok((Ok::<_, String>(name),))),
        ("local:init/module-loader", "load") => instance
            .func_wrap(function, move |_, (name,): (String,)| Ok((modules.load(&name).map(str::to_owned),))),
        _ => {
            let called = format!("the start-up called {interface}#{function}");
            instance.func_new(function, move |_, _, _, _| Err(wasmtime::Error::msg(called.clone())))
        }
    }
    .map_err(anyhow::Error::from)
}

async fn run_entry(store: &mut Store<()>, instance: &Instance, types: &str, modules: &Modules) -> Result<()> {
    type Arguments<'text> = (&'text str, &'text str, Option<&'text str>, bool);
    let (text, name) = modules.entry()?;
    // Without its collector of cycles: an instance serves one request, within bounds of time and memory,
    // and what no cycle holds is freed at once all the same.
    let without_collector = true;
    let init = instance.get_typed_func::<Arguments<'_>, (Result<(), String>,)>(&mut *store, "init")?;
    let (done,) = init.call_async(&mut *store, (types, text, Some(name), without_collector)).await?;
    done.map_err(anyhow::Error::msg).context("the shim failed while it was loaded")
}
