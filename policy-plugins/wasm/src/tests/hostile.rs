//! Components that misbehave: each ends its own request, and nothing else.

use std::time::{Duration, Instant};

use http::StatusCode;
use sluicegate_policy::{HandlerFault, HandlerLimits, ProgramKind};

use super::components::{FETCH, handler, with_items};
use super::{Sent, load, run, run_in};

const KIND: ProgramKind = ProgramKind::Component;

fn limited(limits: HandlerLimits) -> Sent {
    Sent { limits, ..Sent::default() }
}

async fn fails(content: &[u8], sent: Sent) -> (HandlerFault, String) {
    let program = load(KIND, content).unwrap();
    let came = run(&program, KIND, sent).await;
    let error = came.error();
    assert_eq!(&*error.file, "handler.wasm");
    (error.fault, error.message.to_string())
}

#[tokio::test]
async fn h06_a_trap_ends_its_request_and_no_other() {
    let (fault, message) = fails(&handler("unreachable"), Sent::default()).await;
    assert_eq!((fault, &*message), (HandlerFault::Threw, "it panicked: `unreachable` was reached"));
    let program = load(KIND, &handler(FETCH)).unwrap();
    assert_eq!(run(&program, KIND, Sent::default()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn h06_a_loop_ends_when_its_time_is_up() {
    let limits = HandlerLimits { program_cpu: Duration::from_millis(20), ..HandlerLimits::default() };
    let program = load(KIND, &handler("(loop (br 0)) unreachable")).unwrap();
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let came = run(&program, KIND, limited(limits.clone())).await;
        assert_eq!(came.error().fault, HandlerFault::Time);
        assert_eq!(&*came.error().message, "more than 20 ms of processor time");
        assert!(began.elapsed() < Duration::from_secs(10));
        took.push(came.cpu);
    }
    // Who looks at the time may have to wait for a processor, but not each time.
    took.sort_unstable();
    assert!(took[0] >= Duration::from_millis(20) && took[0] < Duration::from_millis(40), "{took:?}");
    assert!(took[4] < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn looping_programs_leave_others_their_turn() {
    let looping = load(KIND, &handler("(loop (br 0)) unreachable")).unwrap();
    let good = load(KIND, &handler(FETCH)).unwrap();
    let limits = HandlerLimits { program_cpu: Duration::from_secs(1), ..HandlerLimits::default() };
    let loops: Vec<_> = (0..4).map(|_| limited(limits.clone())).collect();
    let looping = loops.into_iter().map(|sent| {
        let program = looping.clone();
        tokio::spawn(async move { run(&program, KIND, sent).await })
    });
    let looping: Vec<_> = looping.collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(run(&good, KIND, Sent::default()).await.status(), StatusCode::OK);
    assert!(looping.iter().all(|one| !one.is_finished()), "it waited for others to end");
    for one in looping {
        assert_eq!(one.await.unwrap().error().fault, HandlerFault::Time);
    }
}

#[tokio::test]
async fn waiting_for_the_world_uses_no_time() {
    let limits = HandlerLimits { program_cpu: Duration::from_millis(200), ..HandlerLimits::default() };
    let program = load(KIND, &handler(FETCH)).unwrap();
    let came = run_in(&program, KIND, limited(limits), |effect| {
        std::thread::sleep(Duration::from_millis(400));
        super::answer(effect)
    });
    let came = came.await;
    assert_eq!(came.status(), StatusCode::OK);
    assert!(came.cpu < Duration::from_millis(200), "{:?}", came.cpu);
}

#[tokio::test]
async fn h06_memory_has_an_end() {
    let limits = HandlerLimits { memory: 4 << 20, ..HandlerLimits::default() };
    let grows = with_items(
        "(memory $own 1)",
        "(loop (br_if 0 (i32.ne (memory.grow $own (i32.const 1)) (i32.const -1)))) unreachable",
    );
    let (fault, message) = fails(&grows, limited(limits)).await;
    assert_eq!((fault, &*message), (HandlerFault::Limit, "more than 4 MiB of memory: see memory_mib"));
}

#[tokio::test]
async fn a_program_that_begins_with_more_memory_than_it_may_have_fails() {
    let limits = HandlerLimits { memory: 1 << 20, ..HandlerLimits::default() };
    let large = with_items("(memory $own 64)", FETCH);
    let (fault, message) = fails(&large, limited(limits)).await;
    assert_eq!((fault, &*message), (HandlerFault::Limit, "more than 1 MiB of memory: see memory_mib"));
}

#[tokio::test]
async fn a_table_has_an_end() {
    let grows = with_items(
        "(table $own 1 funcref)",
        "(loop (br_if 0 (i32.ne (table.grow $own (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable",
    );
    let (fault, message) = fails(&grows, Sent::default()).await;
    assert_eq!((fault, &*message), (HandlerFault::Limit, "a table of more than 20000 elements"));
}

#[tokio::test]
async fn endless_recursion_ends() {
    let (fault, message) = fails(&handler("(call $outbound (local.get 0))"), Sent::default()).await;
    assert_eq!((fault, &*message), (HandlerFault::Limit, "its calls nest too deep"));
}

#[tokio::test]
async fn a_handle_that_is_none_ends_the_request() {
    let forged = handler(
        "(call $fetch (i32.const 4711) (i32.const 0) (i32.const 0) (i32.const 0))
         (i32.const 0)",
    );
    let (fault, message) = fails(&forged, Sent::default()).await;
    assert_eq!(fault, HandlerFault::Threw);
    assert!(message.contains("handle"), "{message}");
}

#[tokio::test]
async fn a_result_out_of_bounds_ends_the_request() {
    let (fault, _) = fails(&handler("(i32.const -16)"), Sent::default()).await;
    assert_eq!(fault, HandlerFault::Threw);
}

#[test]
fn a_program_that_loops_at_its_start_is_not_loaded() {
    let loops = with_items("(func $begin (loop (br 0))) (start $begin)", FETCH);
    let problem = load(KIND, &loops).unwrap_err();
    assert_eq!(problem.message, "it cannot be started: more than 500 ms of processor time");
}

#[test]
fn a_program_of_more_memory_than_any_may_have_is_not_loaded() {
    // 320 MiB.
    let huge = with_items("(memory $own 5120)", FETCH);
    let problem = load(KIND, &huge).unwrap_err();
    assert!(problem.message.contains("memory"), "{}", problem.message);
}

#[tokio::test]
async fn dropping_a_request_ends_its_instance() {
    let program = load(KIND, &handler("(loop (br 0)) unreachable")).unwrap();
    let limits = HandlerLimits { program_cpu: Duration::from_secs(3600), ..HandlerLimits::default() };
    // More than there are places: each must be given up.
    for _ in 0..100 {
        let mut running = super::programs().run(&program, limited(limits.clone()).begin(KIND));
        let ended = tokio::time::timeout(Duration::from_millis(2), running.next()).await;
        assert!(ended.is_err(), "{ended:?}");
    }
    let good = load(KIND, &handler(FETCH)).unwrap();
    assert_eq!(run(&good, KIND, Sent::default()).await.status(), StatusCode::OK);
}
