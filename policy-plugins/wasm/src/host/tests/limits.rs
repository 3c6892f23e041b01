//! What a program may ask for and have kept.

use sluicegate_policy::HandlerFault;

use super::*;
use crate::bindings::policy::clock::Host as _;
use crate::bindings::policy::log::{Host as _, Level};
use crate::bindings::policy::{digest, random};

fn limit_of(world: &World) -> String {
    let stop = world.state.stopped().unwrap();
    assert_eq!(stop.fault, HandlerFault::Limit);
    stop.message.clone()
}

#[tokio::test]
async fn h06_effects_are_counted_and_chunks_are_not() {
    let mut world = world();
    let request = world.request();
    let body = world.state.take_body(request).unwrap().unwrap();
    for _ in 0..100 {
        told(world.state.next_chunk(lent(&body)).await).unwrap();
    }
    let most = environment().limits.effects;
    for _ in 0..most {
        let request = world.create("https://api.example.test/");
        told(world.state.fetch(request, None).await).unwrap();
    }
    let request = world.create("https://api.example.test/");
    ended(world.state.fetch(request, None).await);
    assert!(limit_of(&world).starts_with("more than 32 fetches"));
    assert_eq!(world.effects().len(), 100 + most);
}

#[tokio::test]
async fn h06_handles_are_bounded() {
    let mut world = world();
    let mut handles = Vec::new();
    let error = loop {
        match world.state.create_request("GET", "https://api.example.test/") {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Refused::Ended(_)));
    assert_eq!(handles.len(), 1024);
    assert!(limit_of(&world).contains("1024"));
}

#[tokio::test]
async fn h06_what_the_gate_keeps_is_bounded() {
    let mut environment = environment();
    environment.limits.memory = 1 << 20;
    let mut bodies = world_of(environment.clone(), |_| Answer::Done);
    let ended_at = (0..10).find(|_| bodies.state.new(vec![0; 200_000]).is_err());
    assert_eq!(ended_at, Some(5));
    assert!(limit_of(&bodies).contains("memory_mib"));
    let mut headers = world_of(environment, |_| Answer::Done);
    let request = headers.request();
    let value = "x".repeat(10_000);
    let ended_at =
        (0..200).find(|_| headers.state.set_header(lent(&request), "x".into(), value.clone()).is_err());
    assert_eq!(ended_at, Some(104));
}

#[tokio::test]
async fn h06_log_lines_are_counted_also_where_they_were_taken() {
    let mut world = world();
    let most = environment().limits.log_lines;
    for _ in 0..most {
        world.state.write(Level::Info, "x".into(), String::new()).unwrap();
        world.log.lock().unwrap().clear();
    }
    assert!(world.state.write(Level::Info, "x".into(), String::new()).is_err());
    assert!(limit_of(&world).contains("lines of log"));
}

#[tokio::test]
async fn chance_is_bounded_and_differs() {
    let mut world = world();
    let mut draw = |count| random::Host::bytes(&mut world.state, count);
    assert!(draw(0).unwrap().is_empty());
    assert_ne!(draw(16).unwrap(), draw(16).unwrap());
    assert_eq!(draw(65_536).unwrap().len(), 65_536);
    assert!(draw(65_537).is_err());
    assert!(limit_of(&world).contains("65536"));
}

#[tokio::test]
async fn time_and_digests_are_real() {
    let mut world = world();
    assert!(world.state.now_ms().unwrap() > 1_700_000_000_000);
    let before = world.state.elapsed_ns().unwrap();
    assert!(world.state.elapsed_ns().unwrap() >= before);
    world.state.sleep_ms(3).await.unwrap();
    assert!(matches!(world.effects()[..], [Effect::Sleep(time)] if time.as_millis() == 3));
    let digest = digest::Host::sha256(&mut world.state, Vec::new()).unwrap();
    assert_eq!(digest[..4], [0xe3, 0xb0, 0xc4, 0x42]);
}

#[tokio::test]
async fn nothing_is_asked_while_a_program_is_loaded() {
    let mut state = State::loading(&Arc::new(environment()));
    let request = told(state.create_request("GET", "https://api.example.test/")).unwrap();
    let fetched = told(state.fetch(request, None).await);
    assert!(matches!(fetched, Err(Error::Failed(why)) if why.contains("inside of a request")));
    assert!(state.sleep_ms(1).await.is_err());
}

#[tokio::test]
async fn a_program_whose_request_is_gone_ends() {
    let (line, end) = Line::new();
    drop(end);
    let loading = State::loading(&Arc::new(environment()));
    let mut state = State::new(&loading.bound, &loading.environment, input(), line, &Log::default());
    assert!(state.sleep_ms(1).await.is_err());
    assert_eq!(state.stopped().unwrap().message, "the request has ended");
}
