//! While a handler does what it should not, requests that are none of its take as long as before.

use std::fmt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::World;

use crate::abuse::{GREEDY, serve};
use crate::connection::Connection;
use crate::language::Language;
use crate::stage::{Served, Stage};

in_every_language! {
    h06_what_one_handler_does_delays_no_other_request
}

/// How much later an answer may come, in the middle and at the 95th percentile, than when nothing else
/// goes on.
const ADDED_MAX: Duration = Duration::from_millis(10);
/// What holds in none of so many tries does not hold: the tests share their machine.
const TRIES: usize = 12;
/// How long is looked, before and meanwhile.
const LOOK: Duration = Duration::from_millis(600);
/// From one request of a steady client to the next: a thread that is held for a while delays several.
const PACE: Duration = Duration::from_millis(4);
/// Requests at once that misbehave: more than there are threads for them.
const HOSTILE: usize = 4;
/// From the end of one of them to the next: what is looked at is what handlers take from others, and not how a
/// gate fares that is asked for more than its processors can do.
const HOSTILE_PAUSE: Duration = Duration::from_millis(2);

/// Who asks meanwhile: a host without a handler, and one with a small handler.
const STEADY: [&str; 2] = ["plain.test", "small.test"];

/// How long answers took, in the middle and at the 95th percentile.
#[derive(Clone, Copy, Debug)]
struct Times {
    middle: Duration,
    slow: Duration,
}

fn h06_what_one_handler_does_delays_no_other_request(language: Language) {
    let world = World::new("h06-others");
    let stage = Stage::new(&world, language);
    let gate = serve(&stage);
    let mut quiet = [Times::MAX; STEADY.len()];
    let mut broken = Vec::new();
    for (path, status) in GREEDY.map(|path| (path, 502)).into_iter().chain([("/loop", 504)]) {
        if !(0..TRIES).any(|_| delays_nothing(&gate, &mut quiet, path, status)) {
            broken.push(path);
        }
    }
    assert!(broken.is_empty(), "{language}: other requests waited for {broken:?}: see the table above");
}

/// Whether the steady clients get their answers in time while so many requests misbehave. `quiet` is the
/// best that was seen without these; what others do on this machine makes it no better.
fn delays_nothing(gate: &Served<'_, '_>, quiet: &mut [Times; STEADY.len()], path: &str, status: u16) -> bool {
    let mut steady = STEADY.map(|host| Connection::open(&gate.gate, host));
    let mut hostile: Vec<_> = (0..HOSTILE).map(|_| Connection::open(&gate.gate, "scenario.test")).collect();
    for (quiet, before) in quiet.iter_mut().zip(look(&mut steady)) {
        *quiet = quiet.min(before);
    }
    let (begun, is_over) = (Barrier::new(HOSTILE + 1), AtomicBool::new(false));
    let (meanwhile, asked) = thread::scope(|scope| {
        let (begun, is_over) = (&begun, &is_over);
        let hostile: Vec<_> = hostile
            .iter_mut()
            .map(|connection| {
                scope.spawn(move || {
                    connection.send(path);
                    begun.wait();
                    for asked in 1.. {
                        let (answered, body) = connection.receive();
                        assert_eq!(answered, status, "{path}: {body}");
                        if is_over.load(Ordering::SeqCst) {
                            return asked;
                        }
                        thread::sleep(HOSTILE_PAUSE);
                        connection.send(path);
                    }
                    unreachable!()
                })
            })
            .collect();
        begun.wait();
        let meanwhile = look(&mut steady);
        is_over.store(true, Ordering::SeqCst);
        (meanwhile, hostile.into_iter().map(|hostile| hostile.join().unwrap()).sum::<u32>())
    });
    let mut holds = true;
    for ((host, quiet), meanwhile) in STEADY.iter().zip(quiet).zip(meanwhile) {
        let added = meanwhile.beyond(quiet);
        holds &= added.middle < ADDED_MAX && added.slow < ADDED_MAX;
        let language = gate.stage.language;
        eprintln!(
            "{language:10} {asked:5} x {path:8} {host:10} {quiet} quiet, {meanwhile} meanwhile, {added} added"
        );
    }
    holds
}

/// Asks for a while over each of these connections, at the same time.
fn look<const N: usize>(steady: &mut [Connection; N]) -> [Times; N] {
    thread::scope(|scope| {
        let looks = steady.each_mut().map(|connection| scope.spawn(|| Times::of(connection)));
        looks.map(|look| look.join().unwrap())
    })
}

impl Times {
    const MAX: Self = Self { middle: Duration::MAX, slow: Duration::MAX };

    fn min(self, other: Self) -> Self {
        Self { middle: self.middle.min(other.middle), slow: self.slow.min(other.slow) }
    }

    fn beyond(self, other: &Self) -> Self {
        Self { middle: self.middle.saturating_sub(other.middle), slow: self.slow.saturating_sub(other.slow) }
    }

    /// Asks again and again. A request that could not be sent when it was due, since the answer before
    /// had not come, counts from when it was due.
    fn of(connection: &mut Connection) -> Self {
        let mut times = Vec::new();
        let mut due = Instant::now();
        let end = due + LOOK;
        while due < end {
            let early = due.checked_duration_since(Instant::now());
            let began = early.map_or(due, |early| {
                thread::sleep(early);
                Instant::now()
            });
            let (status, body) = connection.ask("/allow");
            assert_eq!((status, body.as_str()), (200, "origin: GET /allow"));
            times.push(began.elapsed());
            due += PACE;
        }
        times.sort();
        Self { middle: times[times.len() / 2], slow: times[times.len() * 95 / 100] }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(formatter, "{:5.1} / {:5.1} ms", milliseconds(self.middle), milliseconds(self.slow))
    }
}
