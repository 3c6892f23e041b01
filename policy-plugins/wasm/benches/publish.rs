//! What it takes to load a program that was compiled before: what publishing a policy with it waits for.
//!
//! `cargo bench -p sluicegate-wasm --bench publish` prints for each program the time where this process
//! has to fetch it from the cache on disk, and, as `known`, where a policy in force has it already. The
//! first run compiles into a folder of its own, which takes seconds; Python is measured where
//! `scripts/python-guests` has built a handler.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]
#![expect(clippy::print_stdout, reason = "a benchmark is for who reads it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use sluicegate_policy::{Program, ProgramKind};
use sluicegate_wasm::Programs;

/// A text that no other pass has loaded: `N` is its number.
const JAVASCRIPT: &str = "export default { outbound(request) { return fetch(request); } }; // N";

/// Components by their language, where scripts have built them.
const COMPONENTS: [(&str, &str); 2] = [
    ("rust", concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests/conformance-rust.wasm")),
    ("python", concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests/handler-in-python.wasm")),
];

/// Programs that are kept though nobody holds them; so many others push one out.
const RECENT: usize = 8;

struct Bench {
    programs: Arc<Programs>,
    texts: usize,
}

impl Bench {
    fn new() -> Self {
        Self { programs: Programs::new(Some(folder())), texts: 0 }
    }

    fn next_text(&mut self) -> Vec<u8> {
        self.texts += 1;
        JAVASCRIPT.replace('N', &self.texts.to_string()).into_bytes()
    }

    /// Has the process forget what was loaded.
    fn forget(&mut self) {
        for _ in 0..RECENT {
            let text = self.next_text();
            self.load(ProgramKind::JavaScript, &text);
        }
    }

    fn load(&self, kind: ProgramKind, content: &[u8]) -> Duration {
        let program = Program::new("bench", kind, content.into());
        let began = Instant::now();
        drop(self.programs.load(&program).unwrap());
        began.elapsed()
    }
}

/// Beside the benchmark, so that the next run finds what this one compiled.
fn folder() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("sluicegate-wasm-publish")
}

fn publish(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let text = bench.next_text();
    println!("engine of JavaScript in {:?}", bench.load(ProgramKind::JavaScript, &text));
    criterion.bench_function("publish javascript", |timer| {
        timer.iter_custom(|count| {
            (0..count)
                .map(|_| {
                    let text = bench.next_text();
                    bench.load(ProgramKind::JavaScript, &text)
                })
                .sum()
        });
    });
    for (name, file) in COMPONENTS.into_iter().filter(|(_, file)| Path::new(file).exists()) {
        let content = std::fs::read(file).unwrap();
        let first = bench.load(ProgramKind::Component, &content);
        println!("{name}: {} bytes, first in {first:?}", content.len());
        criterion.bench_function(&format!("publish {name}"), |timer| {
            timer.iter_custom(|count| {
                (0..count)
                    .map(|_| {
                        bench.forget();
                        bench.load(ProgramKind::Component, &content)
                    })
                    .sum()
            });
        });
        criterion.bench_function(&format!("publish {name}, known"), |timer| {
            timer.iter_custom(|count| (0..count).map(|_| bench.load(ProgramKind::Component, &content)).sum());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = publish
}
criterion_main!(benches);
