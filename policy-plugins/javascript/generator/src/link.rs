//! The QuickJS runtime and the bindings of the world `engine`, linked into a component that has not run
//! yet.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use componentize_qjs::{codegen, default_runtime_wasm};
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
use wit_component::{Linker, StringEncoding, embed_component_metadata};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldItem};

/// A component, and the JavaScript that its runtime wants to be told about its types.
pub struct Linked {
    pub component: Vec<u8>,
    pub types: String,
}

/// Links the engine. `wit` holds `policy.wit` and, below it, the world of the engine.
pub fn link(wit: &Path) -> Result<Linked> {
    let mut resolve = Resolve::default();
    resolve.push_file(wit.join("policy.wit"))?;
    let package = resolve.push_file(wit.join("javascript/engine.wit"))?;
    let world = resolve.select_world(&[package], Some("engine"))?;

    let (mut bindings, metadata) = wit_dylib::create_with_metadata(&resolve, world, None);
    let types = codegen::generate_shim(&resolve, &metadata);
    embed_component_metadata(&mut bindings, &resolve, world, StringEncoding::UTF8)?;

    let mut linker = Linker::default();
    linker.encoder().validate(true);
    // Loaded by these names: changing one changes the engine's bytes.
    linker.library("componentize_qjs_runtime.wasm", default_runtime_wasm(), false)?;
    linker.library("wit-dylib.wasm", &bindings, false)?;
    linker.encoder().adapter("wasi_snapshot_preview1", WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    Ok(Linked { component: linker.encode().context("cannot link the engine")?, types })
}

/// What a component imports, a line for each interface with the names of its functions.
pub fn imports(component: &[u8]) -> Result<String> {
    let DecodedWasm::Component(resolve, world) = decode(component)? else {
        bail!("the engine is no component");
    };
    let mut lines = Vec::new();
    for (key, item) in &resolve.worlds[world].imports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let functions: Vec<&str> = resolve.interfaces[*id].functions.keys().map(String::as_str).collect();
        lines.push(format!("  {}: {}", resolve.name_world_key(key), functions.join(" ")));
    }
    Ok(lines.join("\n"))
}
