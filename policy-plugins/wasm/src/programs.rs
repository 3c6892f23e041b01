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
use sluicegate_policy::{Program, ProgramKind, ScriptProblem};

use crate::bindings::engine::EnginePre;
use crate::cache::{Compiled, Origin};
use crate::embedded::{ENGINE, EmbeddedText, embedded_text};
use crate::engine::{Calls, Machine};
use crate::javascript;
use crate::load::LoadedProgram;
use crate::problem::whole;
use crate::running::{Begin, Running};
use crate::state::State;
use crate::threads::Threads;

/// Programs that are kept though nobody holds them: a document is often read twice, to check it and to
/// put it in force.
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
    compiled: Option<Compiled>,
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
    /// Of what is compiled for it, which for JavaScript is the engine.
    origin: Origin,
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
        let key = (*kind, program.digest);
        let mut workshop = self.workshop.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = workshop.loaded.get(&key).and_then(Weak::upgrade) {
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
                let machine = self.components(materials)?;
                let hits = self.cache_hits();
                let wanted = Wanted { kind, content, origin: machine.origin(&sum) };
                let component = || LoadedProgram::component(&machine, content);
                let mut program = self.compile(materials, &wanted, component)?;
                program.report.from_cache = self.cache_hits() > hits;
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
        let (was_made, hits) = (self.javascript.is_some(), self.cache_hits());
        let JavaScript { machine, engine } = self.javascript(materials, content)?;
        let from_cache = was_made || self.cache_hits() > hits;
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

    /// The engine of JavaScript; `content` is a text that it is wanted for.
    fn javascript(&mut self, materials: &Materials, content: &[u8]) -> Result<JavaScript, ScriptProblem> {
        if let Some(javascript) = &self.javascript {
            return Ok(javascript.clone());
        }
        let machine = self.machine(materials, Calls::Asynchronous)?;
        let wanted =
            Wanted { kind: ProgramKind::JavaScript, content, origin: machine.origin(&sha256(ENGINE)) };
        let prepare = || javascript::prepare(&machine).map_err(|error| unmade(&error));
        let engine = self.compile(materials, &wanted, prepare)?;
        Ok(self.javascript.insert(JavaScript { machine, engine }).clone())
    }

    fn machine(&mut self, materials: &Materials, calls: Calls) -> Result<Arc<Machine>, ScriptProblem> {
        let threads = match &self.threads {
            Some(threads) => Arc::clone(threads),
            None => {
                let threads = Arc::new(Threads::start().map_err(|error| unmade(&error.into()))?);
                // With the first machine, so that no folder is made before there is a use for it.
                self.compiled = materials.cache.as_deref().and_then(Compiled::open);
                Arc::clone(self.threads.insert(threads))
            }
        };
        let cache = self.compiled.as_ref().map(Compiled::cache);
        Machine::new(&threads, cache, calls).map(Arc::new).map_err(|error| unmade(&error))
    }

    /// Compiles something or finds it compiled, with the cache checked before and listed after.
    fn compile<T>(
        &mut self,
        materials: &Materials,
        wanted: &Wanted<'_>,
        compile: impl FnOnce() -> Result<T, ScriptProblem>,
    ) -> Result<T, ScriptProblem> {
        let Some(compiled) = &mut self.compiled else {
            return compile();
        };
        compiled.check().map_err(|error| unchecked(&error))?;
        if let (Some(compiler), false) = (&materials.compiler, compiled.has(wanted.origin)) {
            let compiled_apart = compiler(wanted.kind, wanted.content);
            compiled.check().map_err(|error| unchecked(&error))?;
            if let (Err(error), false) = (compiled_apart, compiled.has(wanted.origin)) {
                tracing::warn!(%error, "a handler is compiled by the gate itself, which keeps the memory");
            }
        }
        let misses = compiled.cache().cache_misses();
        let made = compile();
        if compiled.cache().cache_misses() > misses {
            compiled.note(wanted.origin);
        }
        made
    }

    fn cache_hits(&self) -> usize {
        self.compiled.as_ref().map_or(0, |compiled| compiled.cache().cache_hits())
    }

    fn keep(&mut self, key: Key, program: &Arc<LoadedProgram>) {
        self.loaded.retain(|_, program| program.strong_count() > 0);
        self.loaded.insert(key, Arc::downgrade(program));
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

fn unchecked(error: &io::Error) -> ScriptProblem {
    let help = "remove the folder of compiled handlers; it is made again";
    whole(format!("compiled handlers on disk cannot be checked: {error}"), Some(help))
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
