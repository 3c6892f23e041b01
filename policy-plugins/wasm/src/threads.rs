//! The threads that programs run on, apart from those of the data plane.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::ticker::Ticker;

/// Worker threads for programs.
const WORKERS: usize = 2;
/// How much behind the data plane the threads of programs get a processor.
const NICENESS: i32 = 5;

/// A runtime for programs, and the clock that interrupts them.
pub(crate) struct Threads {
    pub(crate) ticker: Arc<Ticker>,
    /// There until this is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("program")
            // By default a busy worker looks at timers and wake-ups every 61 turns, and a turn of a
            // looping program takes a millisecond.
            .event_interval(1)
            .enable_time()
            .on_thread_start(|| {
                // On Linux this is of the calling thread alone.
                if let Err(error) = rustix::process::nice(NICENESS) {
                    tracing::debug!(%error, "programs run at the priority of the data plane");
                }
            })
            .build()?;
        Ok(Self { ticker: Arc::new(Ticker::start()?), runtime: Some(runtime) })
    }

    /// Begins a task.
    pub(crate) fn spawn<Task>(&self, task: Task) -> Option<tokio::task::AbortHandle>
    where
        Task: Future<Output = ()> + Send + 'static,
    {
        Some(self.runtime.as_ref()?.spawn(task).abort_handle())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Whoever drops the last program may be a thread that must not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
