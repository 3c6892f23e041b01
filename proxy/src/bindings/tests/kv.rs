use std::fs;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_policy::KvOperation;

use super::{bindings, files};
use crate::bindings::{Fault, TTL_MAX, VALUE_BYTES_MAX};

#[tokio::test]
async fn values_are_written_read_listed_and_deleted() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    bindings.write("b", "2", None).await.unwrap();
    bindings.write("a", &b"\0\xff"[..], None).await.unwrap();
    bindings.write("empty", "", None).await.unwrap();
    bindings.write("b", "3", None).await.unwrap();
    assert_eq!(bindings.value("a").await.unwrap(), &b"\0\xff"[..]);
    assert_eq!(bindings.value("b").await.unwrap(), "3");
    assert_eq!(bindings.value("empty").await.unwrap(), "");
    assert_eq!(bindings.keys("").await, ["a", "b", "empty"]);
    assert_eq!(bindings.keys("e").await, ["empty"]);
    for _ in 0..2 {
        bindings.do_kv(KvOperation::Delete("a".into())).await.unwrap();
    }
    assert_eq!(bindings.value("a").await, None);
    assert_eq!(bindings.keys("").await, ["b", "empty"]);
}

#[tokio::test]
async fn values_are_there_again_for_the_next_process() {
    let state = tempfile::tempdir().unwrap();
    bindings(state.path()).write("a", "1", None).await.unwrap();
    bindings(state.path()).increment("a", 1, None).await.unwrap();
    assert_eq!(bindings(state.path()).value("a").await.unwrap(), "2");
}

#[tokio::test]
async fn a_value_that_looks_like_an_envelope_stays_a_value() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    bindings.write("a", "x", Some(Duration::from_millis(1))).await.unwrap();
    let file = files(&state.path().join("kv")).pop().unwrap();
    let hostile = fs::read(file).unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(bindings.value("a").await, None);
    bindings.write("b", hostile.clone(), None).await.unwrap();
    assert_eq!(bindings.value("b").await.unwrap(), hostile);
}

#[tokio::test]
async fn time_ends_values_and_numbers() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    // Each write waits for the disk, and all of them are to be done in the shorter time.
    let (short, long) = (Some(Duration::from_secs(3)), Some(Duration::from_secs(60)));
    bindings.write("short", "1", short).await.unwrap();
    bindings.write("long", "1", long).await.unwrap();
    assert_eq!(bindings.increment("count", 5, short).await, Ok(5));
    assert_eq!(bindings.increment("count", 5, long).await, Ok(10));
    assert_eq!(bindings.keys("").await, ["count", "long", "short"]);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(bindings.keys("").await, ["long"]);
    assert_eq!(bindings.value("short").await, None);
    assert_eq!(bindings.value("long").await.unwrap(), "1");
    // A number's time begins with its first increment, and then it begins again.
    assert_eq!(bindings.increment("count", 5, long).await, Ok(5));
    assert!(files(&state.path().join("kv")).iter().all(|file| !file.contains("short")));
    for ttl in [Duration::ZERO, TTL_MAX + Duration::from_secs(1)] {
        assert_eq!(bindings.write("a", "1", Some(ttl)).await, Err(Fault::Ttl));
        assert_eq!(bindings.increment("a", 1, Some(ttl)).await, Err(Fault::Ttl));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_is_lost() {
    let state = tempfile::tempdir().unwrap();
    let old = Arc::new(bindings(state.path()));
    // As when a policy is published: requests of both generations are at work.
    let new = Arc::new(bindings(state.path()));
    let tasks: Vec<_> = (0..20)
        .map(|index| Arc::clone(if index % 2 == 0 { &old } else { &new }))
        .map(|bindings| tokio::spawn(async move { bindings.increment("n", 1, None).await.unwrap() }))
        .collect();
    let mut sums = Vec::new();
    for task in tasks {
        sums.push(task.await.unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=20).collect::<Vec<_>>());
    assert_eq!(old.value("n").await.unwrap(), "20");
}

#[tokio::test]
async fn numbers_stay_numbers() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    assert_eq!(bindings.increment("n", -3, None).await, Ok(-3));
    bindings.write("n", i64::MAX.to_string(), None).await.unwrap();
    assert_eq!(bindings.increment("n", 1, None).await, Err(Fault::Overflow));
    assert_eq!(bindings.value("n").await.unwrap(), i64::MAX.to_string());
    for text in ["", "one", "1.5", " 1", "9223372036854775808"] {
        bindings.write("n", text, None).await.unwrap();
        assert_eq!(bindings.increment("n", 1, None).await, Err(Fault::NotANumber), "{text:?}");
        assert_eq!(bindings.value("n").await.unwrap(), text);
    }
}

#[tokio::test]
async fn values_and_lists_are_bounded() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    let most = vec![b'a'; VALUE_BYTES_MAX];
    bindings.write("a", most.clone(), None).await.unwrap();
    assert_eq!(bindings.value("a").await.unwrap().len(), most.len());
    bindings.write("a", most.clone(), Some(Duration::from_secs(9))).await.unwrap();
    assert_eq!(bindings.value("a").await.unwrap().len(), most.len());
    assert_eq!(bindings.write("a", vec![0; most.len() + 1], None).await, Err(Fault::ValueTooLong));
    // Somebody else's file that is longer.
    fs::write(state.path().join("kv/b"), vec![0; most.len() + 1]).unwrap();
    let got = bindings.do_kv(KvOperation::Get("b".into())).await;
    assert_eq!(got.unwrap_err(), Fault::ValueTooLong);
    for number in 0..1100 {
        fs::write(state.path().join(format!("kv/k{number:04}")), "").unwrap();
    }
    let keys = bindings.keys("k").await;
    assert_eq!((keys.len(), &*keys[0], &*keys[999]), (1000, "k0000", "k0999"));
}
