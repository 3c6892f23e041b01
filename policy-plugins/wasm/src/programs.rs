//! All programs of a process: the machines that run them, made when they are first needed, and the
//! programs that are loaded.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use sluicegate_mapped::{CompiledPrograms, Origin};
use sluicegate_policy::{Program, ProgramKind, ScriptProblem};
use wasmtime::component::Component;

use crate::bindings::engine::EnginePre;
use crate::embedded::{ENGINE, EmbeddedText, embedded_text};
use crate::engine::{Calls, Machine};
use crate::javascript;
use crate::load::{LoadedProgram, check_form, uncompiled};
use crate::problem::whole;
use crate::running::{Begin, Running};
use crate::state::State;
use crate::threads::Threads;

/// Programs that are kept though nobody holds them, those that were wanted last: a document is often read twice, to
/// check it and to put it in force, and the one before put in force again.
const RECENT_MAX: usize = 4;

/// How long loading takes before somebody is told.
const QUIET: Duration = Duration::from_millis(500);

/// Is told the file of a program that is being loaded for longer than a moment.
pub type Teller = Box<dyn Fn(&str) + Send + Sync>;

/// Compiles a program into the folder of the cache in another process, which gives back all that a
/// compiler takes of memory. There it is [`Programs::load`] with the same folder.
pub type Compiler = Box<dyn Fn(ProgramKind, &[u8]) -> io::Result<()> + Send + Sync>;

/// Loads and runs programs. One for a process; nothing is made before the first program.
pub struct Programs {
    materials: Materials,
    /// Held while a program is loaded: one at a time is compiled.
    workshop: Mutex<Workshop>,
}

/// What loading is given.
#[derive(Default)]
struct Materials {
    /// The folder of the cache.
    cache: Option<PathBuf>,
    compiler: Option<Compiler>,
    teller: Option<Teller>,
}

/// What loading needs, each made at its first use.
#[derive(Default)]
struct Workshop {
    threads: Option<Arc<Threads>>,
    compiled: Option<CompiledPrograms>,
    components: Option<Arc<Machine>>,
    javascript: Option<JavaScript>,
    loaded: HashMap<Key, Weak<LoadedProgram>>,
    recent: VecDeque<Arc<LoadedProgram>>,
}

/// What is to be compiled.
struct Wanted<'content> {
    /// The program, for a compiler apart.
    kind: ProgramKind,
    content: &'content [u8],
    /// What is compiled for it, which for JavaScript is the engine.
    component: &'content [u8],
    sum: Sum,
}

/// What was compiled.
struct Compiled {
    component: Component,
    /// Whether it was found so.
    from_cache: bool,
}

/// A kind, and SHA-256 of a content.
type Key = (ProgramKind, Sum);

/// SHA-256 of a content.
type Sum = [u8; 32];

/// The engine of JavaScript, ready to be instantiated.
#[derive(Clone)]
struct JavaScript {
    machine: Arc<Machine>,
    engine: EnginePre<State>,
}

impl Programs {
    /// With nothing loaded. `cache` is a folder for compiled programs, which belongs to this user alone
    /// and is made if it is not there; without it every start compiles anew.
    #[must_use]
    pub fn new(cache: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { materials: Materials { cache, ..Materials::default() }, workshop: Mutex::default() })
    }

    /// The same, with somebody who is asked to compile what is not in the cache. Where that fails it is
    /// compiled here.
    #[must_use]
    pub fn with_compiler(cache: PathBuf, compiler: Compiler) -> Arc<Self> {
        let materials = Materials { cache: Some(cache), compiler: Some(compiler), teller: None };
        Arc::new(Self { materials, workshop: Mutex::default() })
    }

    /// As [`Self::new`], for a person who waits: `teller` is told of what takes longer than a moment.
    #[must_use]
    pub fn telling(cache: Option<PathBuf>, teller: Teller) -> Arc<Self> {
        let materials = Materials { cache, compiler: None, teller: Some(teller) };
        Arc::new(Self { materials, workshop: Mutex::default() })
    }

    /// Loads a program as it will be run: compiles it or finds it compiled, checks what it imports and
    /// exports, makes a first instance, and asks a text of JavaScript what it offers. The same program is
    /// loaded once, as long as somebody holds it.
    ///
    /// Takes seconds where something is compiled: not for a thread that serves I/O.
    ///
    /// # Errors
    /// It is no program for this gate; the problem says what to do, and where in a text of JavaScript.
    pub fn load(&self, program: &Program) -> Result<Arc<LoadedProgram>, ScriptProblem> {
        let Program { kind, file, content, .. } = program;
        check_length(*kind, content)?;
        let key = (*kind, program.content.sha256());
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = workshop.loaded.get(&key).and_then(Weak::upgrade) {
            workshop.remember(&known);
            return Ok(known);
        }
        let load = || workshop.load(&self.materials, &key, content);
        let loaded = Arc::new(self.materials.tell_while(file, load)?);
        let report = loaded.report();
        tracing::debug!(
            %file,
            bytes = report.bytes,
            time_ms = report.compile_time.as_millis(),
            from_cache = report.from_cache,
            "loaded a handler"
        );
        workshop.keep(key, &loaded);
        Ok(loaded)
    }

    /// Begins one request, in a fresh instance on threads apart from the caller's.
    #[must_use]
    pub fn run(&self, program: &Arc<LoadedProgram>, begin: Begin) -> Running {
        Running::begin(program, begin)
    }
}

impl Materials {
    /// Does some work on a file, and has somebody told where it takes long.
    fn tell_while<T>(&self, file: &str, work: impl FnOnce() -> T) -> T {
        let Some(teller) = &self.teller else {
            return work();
        };
        thread::scope(|scope| {
            let (done, ended) = mpsc::channel::<()>();
            let wait = move || {
                if ended.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
                    teller(file);
                }
            };
            // Without a thread nobody is told.
            drop(thread::Builder::new().spawn_scoped(scope, wait));
            let worked = work();
            drop(done);
            worked
        })
    }
}

impl Workshop {
    fn load(
        &mut self,
        materials: &Materials,
        key: &Key,
        content: &[u8],
    ) -> Result<LoadedProgram, ScriptProblem> {
        let (kind, sum) = *key;
        match (kind, embedded_text(content)) {
            (ProgramKind::JavaScript, _) => self.load_javascript(materials, content),
            (ProgramKind::Component, Some(embedded)) => self.load_embedded(materials, content, &embedded),
            (ProgramKind::Component, None) => {
                check_form(content)?;
                let began = Instant::now();
                let machine = self.components(materials)?;
                let wanted = Wanted { kind, content, component: content, sum };
                let compiled = self.compiled(materials, &machine, &wanted);
                let Compiled { component, from_cache } = compiled.map_err(|error| uncompiled(&error))?;
                let compile_time = began.elapsed();
                let mut program = LoadedProgram::component(&machine, &component, content.len())?;
                program.report.compile_time += compile_time;
                program.report.from_cache = from_cache;
                Ok(program)
            }
        }
    }

    fn load_javascript(
        &mut self,
        materials: &Materials,
        content: &[u8],
    ) -> Result<LoadedProgram, ScriptProblem> {
        // What is no text needs no engine.
        javascript::read(content)?;
        let began = Instant::now();
        let (JavaScript { machine, engine }, from_cache) = self.javascript(materials, content)?;
        let engine_time = began.elapsed();
        let mut program = LoadedProgram::javascript(&machine, &engine, content)?;
        program.report.compile_time += engine_time;
        program.report.from_cache = from_cache;
        Ok(program)
    }

    /// Loads a text in a component: running it is running the component.
    fn load_embedded(
        &mut self,
        materials: &Materials,
        content: &[u8],
        embedded: &EmbeddedText<'_>,
    ) -> Result<LoadedProgram, ScriptProblem> {
        if !embedded.is_of_this_version() {
            let help = "build it again with this version: sluicegate policy build FILE.js -o FILE.wasm; or \
                        name the .js file";
            return Err(whole(
                "the component holds JavaScript with the engine of another version",
                Some(help),
            ));
        }
        check_length(ProgramKind::JavaScript, embedded.text.as_bytes())?;
        let mut program = self
            .load_javascript(materials, embedded.text.as_bytes())
            .map_err(|problem| javascript::elsewhere(problem, embedded.file, embedded.text))?;
        program.report.bytes = content.len();
        Ok(program)
    }

    /// The machine for components.
    fn components(&mut self, materials: &Materials) -> Result<Arc<Machine>, ScriptProblem> {
        if let Some(machine) = &self.components {
            return Ok(Arc::clone(machine));
        }
        let machine = self.machine(materials, Calls::Synchronous)?;
        Ok(Arc::clone(self.components.insert(machine)))
    }

    /// The engine of JavaScript, and whether it was there or found compiled; `content` is a text that it is
    /// wanted for.
    fn javascript(
        &mut self,
        materials: &Materials,
        content: &[u8],
    ) -> Result<(JavaScript, bool), ScriptProblem> {
        if let Some(javascript) = &self.javascript {
            return Ok((javascript.clone(), true));
        }
        let machine = self.machine(materials, Calls::Asynchronous)?;
        let wanted =
            Wanted { kind: ProgramKind::JavaScript, content, component: ENGINE, sum: sha256(ENGINE) };
        let compiled = self.compiled(materials, &machine, &wanted).map_err(|error| unmade(&error))?;
        let engine = javascript::prepare(&machine, &compiled.component).map_err(|error| unmade(&error))?;
        let javascript = self.javascript.insert(JavaScript { machine, engine });
        Ok((javascript.clone(), compiled.from_cache))
    }

    fn machine(&mut self, materials: &Materials, calls: Calls) -> Result<Arc<Machine>, ScriptProblem> {
        let threads = match &self.threads {
            Some(threads) => Arc::clone(threads),
            None => {
                let threads = Arc::new(Threads::start().map_err(|error| unmade(&error.into()))?);
                // With the first machine, so that no folder is made before there is a use for it.
                self.compiled = materials.cache.as_deref().and_then(CompiledPrograms::open);
                Arc::clone(self.threads.insert(threads))
            }
        };
        Machine::new(&threads, calls).map(Arc::new).map_err(|error| unmade(&error))
    }

    /// Finds something compiled, or compiles it.
    fn compiled(
        &self,
        materials: &Materials,
        machine: &Machine,
        wanted: &Wanted<'_>,
    ) -> wasmtime::Result<Compiled> {
        let engine = &machine.engine;
        let Some(programs) = &self.compiled else {
            let component = Component::from_binary(engine, wanted.component)?;
            return Ok(Compiled { component, from_cache: false });
        };
        let origin = Origin::new(engine, &wanted.sum);
        let mut found = programs.get(engine, &origin);
        if let (Some(compiler), None) = (&materials.compiler, &found) {
            let compiled_apart = compiler(wanted.kind, wanted.content);
            found = programs.get(engine, &origin);
            if let (Err(error), None) = (compiled_apart, &found) {
                tracing::warn!(%error, "a handler is compiled by the gate itself, which keeps the memory");
            }
        }
        match found {
            Some(component) => Ok(Compiled { component, from_cache: true }),
            None => {
                let component = programs.add(engine, &origin, wanted.component)?;
                Ok(Compiled { component, from_cache: false })
            }
        }
    }

    fn keep(&mut self, key: Key, program: &Arc<LoadedProgram>) {
        self.loaded.retain(|_, program| program.strong_count() > 0);
        self.loaded.insert(key, Arc::downgrade(program));
        self.remember(program);
    }

    /// Keeps one of the programs that were loaded last.
    fn remember(&mut self, program: &Arc<LoadedProgram>) {
        self.recent.retain(|known| !Arc::ptr_eq(known, program));
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(program));
    }
}

impl fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Programs").field("cache", &self.materials.cache).finish_non_exhaustive()
    }
}

fn check_length(kind: ProgramKind, content: &[u8]) -> Result<(), ScriptProblem> {
    let (bytes, most) = (content.len(), kind.bytes_max());
    if bytes > most {
        return Err(whole(format!("the file has {bytes} bytes; at most {most} are read"), None));
    }
    Ok(())
}

fn unmade(error: &wasmtime::Error) -> ScriptProblem {
    whole(format!("programs cannot be run on this machine: {error:#}"), None)
}

fn sha256(content: &[u8]) -> Sum {
    let mut sum = [0; 32];
    let digest = digest::digest(&digest::SHA256, content);
    sum.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_is_told_what_takes_long() {
        let (tell, told) = mpsc::channel();
        let teller: Teller = Box::new(move |file| drop(tell.send(file.to_owned())));
        let materials = Materials { teller: Some(teller), ..Materials::default() };
        assert_eq!(materials.tell_while("quick.js", || 1), 1);
        let work = || told.recv_timeout(60 * QUIET);
        assert_eq!(materials.tell_while("slow.js", work).unwrap(), "slow.js");
        assert!(told.try_recv().is_err());
    }
}
