//! How much memory a process has with one idle handler: `footprint CACHE FILE [SECONDS]`; `-` for no cache.
#![expect(clippy::unwrap_used, reason = "for whoever measures")]
#![expect(clippy::print_stdout, reason = "for whoever measures")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sluicegate_policy::{Program, ProgramKind};
use sluicegate_wasm::Programs;

fn rss() -> String {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let hwm = std::fs::read_to_string("/proc/self/status").unwrap();
    let hwm = hwm.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
    format!("Rss {} MiB, anonymous {} MiB, {hwm}", of("Rss:"), of("Anonymous:"))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let cache = arguments.next().filter(|cache| cache != "-").map(PathBuf::from);
    let file = arguments.next().unwrap();
    println!("begin: {}", rss());
    let programs = Programs::new(cache);
    let content = std::fs::read(&file).unwrap();
    let kind = ProgramKind::of_file(&file).unwrap();
    let began = Instant::now();
    let program = programs.load(&Program::new(&file, kind, content.into())).unwrap();
    println!("loaded in {:?}: {} {:?}", began.elapsed(), rss(), program.report());
    for _ in 0..arguments.next().map_or(1, |count| count.parse().unwrap()) {
        std::thread::sleep(Duration::from_secs(1));
        println!("idle: {}", rss());
    }
}
