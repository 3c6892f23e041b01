use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluicegate_policy::{Answer, BodySource, ObjectsOperation};

use super::{bindings, fed, files, whole};
use crate::bindings::Fault;

#[tokio::test]
async fn objects_stream_in_and_out() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    assert!(bindings.object("a").await.is_none());
    let (feed, content) = fed();
    let pieces: Vec<Bytes> = (0..40u8).map(|n| Bytes::from(vec![n; 100_000])).collect();
    let whole = pieces.concat();
    let feeding = async move {
        for piece in pieces {
            feed.send(Ok(piece)).await.unwrap();
        }
    };
    let (stored, ()) = tokio::join!(bindings.stream_object("a", content), feeding);
    stored.unwrap();
    let (object, content) = bindings.object("a").await.unwrap();
    assert!(content == whole);
    assert_eq!(object.content_type, None);
    bindings.put_object("a", BodySource::Bytes("short".into()), Some("text/plain")).await.unwrap();
    let (object, content) = bindings.object("a").await.unwrap();
    assert_eq!((object.content_type.as_deref(), &*content), (Some("text/plain"), &b"short"[..]));
    let head = bindings.do_objects(ObjectsOperation::Head("a".into()), None).await.unwrap();
    assert!(matches!(head, (Answer::Object(known), None) if known == object));
    bindings.put_object("b/c", BodySource::Empty, Some("text/plain")).await.unwrap();
    assert_eq!(bindings.object("b/c").await.unwrap().1, b"");
    let listed = bindings.do_objects(ObjectsOperation::List("b/".into()), None).await.unwrap().0;
    assert!(matches!(listed, Answer::Keys(keys) if keys == [Box::<str>::from("b/c")]));
    bindings.do_objects(ObjectsOperation::Delete("a".into()), None).await.unwrap();
    assert!(bindings.object("a").await.is_none());
}

#[tokio::test]
async fn a_folder_of_objects_is_one_of_plain_files() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    bindings.put_object("a", BodySource::Bytes("ours".into()), None).await.unwrap();
    assert_eq!(fs::read(state.path().join("objects/a")).unwrap(), b"ours");
    fs::write(state.path().join("objects/b"), "theirs").unwrap();
    assert_eq!(bindings.object("b").await.unwrap().1, b"theirs");
}

#[tokio::test]
async fn an_object_that_looks_like_an_envelope_stays_content() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    bindings.put_object("a", BodySource::Bytes("x".into()), Some("text/html")).await.unwrap();
    let hostile = fs::read(state.path().join("objects/a")).unwrap();
    let (feed, content) = fed();
    let feeding = async {
        for byte in hostile.clone() {
            feed.send(Ok(Bytes::from(vec![byte]))).await.unwrap();
        }
        drop(feed);
    };
    let (stored, ()) = tokio::join!(bindings.stream_object("b", content), feeding);
    stored.unwrap();
    let (object, content) = bindings.object("b").await.unwrap();
    assert_eq!((object.content_type, content), (None, hostile));
}

#[tokio::test]
async fn a_torn_object_leaves_nothing_and_takes_nothing_away() {
    let state = tempfile::tempdir().unwrap();
    let bindings = Arc::new(bindings(state.path()));
    bindings.put_object("a", BodySource::Bytes("before".into()), None).await.unwrap();
    for size in [1, 1_000_000] {
        let (feed, content) = fed();
        let feeding = async move {
            feed.send(Ok(Bytes::from(vec![b'x'; size]))).await.unwrap();
            feed.send(Err("reset")).await.unwrap();
        };
        let (stored, ()) = tokio::join!(bindings.stream_object("a", content), feeding);
        assert_eq!(stored, Err(Fault::Cut));
        assert_eq!(bindings.object("a").await.unwrap().1, b"before");
        assert_eq!(files(&state.path().join("objects")).len(), 1);
    }
}

#[tokio::test]
async fn an_object_whose_sender_goes_away_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let bindings = Arc::new(bindings(state.path()));
    let (feed, content) = fed();
    let storing = {
        let bindings = Arc::clone(&bindings);
        tokio::spawn(async move { bindings.stream_object("a", content).await })
    };
    for _ in 0..8 {
        feed.send(Ok(Bytes::from(vec![b'x'; 1_000_000]))).await.unwrap();
    }
    let folder = state.path().join("objects");
    assert_eq!(files(&folder).len(), 1, "it is being written");
    storing.abort();
    assert!(storing.await.unwrap_err().is_cancelled());
    // What was sent is taken back in the background; the sender is told by then.
    feed.closed().await;
    for _ in 0..200 {
        if files(&folder).is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(files(&folder), Vec::<String>::new());
    assert!(bindings.object("a").await.is_none());
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_in_time() {
    let state = tempfile::tempdir().unwrap();
    let partial = state.path().join("objects/.partial");
    fs::create_dir_all(&partial).unwrap();
    let (old, new) = (partial.join("a.1"), partial.join("a.2"));
    for file in [&old, &new] {
        fs::write(file, "torn").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 60 * 60);
    fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    let bindings = bindings(state.path());
    assert!(bindings.object("a").await.is_none());
    assert_eq!((old.exists(), new.exists()), (false, true));
    let listed = bindings.do_objects(ObjectsOperation::List("".into()), None).await.unwrap().0;
    assert!(matches!(listed, Answer::Keys(keys) if keys.is_empty()));
}

#[tokio::test]
async fn an_object_is_read_as_it_was_when_it_was_opened() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    let old = vec![b'o'; 5_000_000];
    bindings.put_object("a", BodySource::Bytes(old.clone().into()), Some("text/old")).await.unwrap();
    let (_, content) = bindings.do_objects(ObjectsOperation::Get("a".into()), None).await.unwrap();
    bindings
        .put_object("a", BodySource::Bytes(vec![b'n'; 9_000_000].into()), Some("text/new"))
        .await
        .unwrap();
    let content = whole(content.unwrap()).await;
    assert!(content == old);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    let filled = BodySource::Filled(Vec::new());
    assert_eq!(bindings.put_object("a", filled, None).await, Err(Fault::HoldsSecrets));
    for content_type in ["", "a\r\nb", "ä", &"a".repeat(256)] {
        let put = bindings.put_object("a", BodySource::Empty, Some(content_type)).await;
        assert_eq!(put, Err(Fault::ContentType), "{content_type:?}");
    }
    assert!(bindings.object("a").await.is_none());
}
