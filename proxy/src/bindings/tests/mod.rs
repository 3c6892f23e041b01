mod kv;
mod objects;
mod redis;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use sluicegate_policy::{
    Answer, BindingDeclaration, BindingKind, BodyHandle, BodySource, Identity, KvOperation, Object,
    ObjectsOperation, Policy,
};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use super::{Bindings, Fault, ObjectContent, ObjectReader};
use crate::secrets::Secrets;
use crate::upstream::{TlsMaterial, Upstream};

pub(super) fn declaration(name: &str, kind: BindingKind, url: &str) -> BindingDeclaration {
    BindingDeclaration {
        name: name.into(),
        kind,
        url: url.into(),
        prefix: None,
        password: None,
        access_key_id: None,
        secret_access_key: None,
        endpoint: None,
        region: None,
    }
}

fn identity(container_id: &str) -> Identity {
    Identity { container_id: container_id.into(), instance_id: "i".into(), labels: BTreeMap::new() }
}

fn embedded() -> Vec<BindingDeclaration> {
    vec![
        declaration("kv", BindingKind::Kv, "file:kv"),
        declaration("objects", BindingKind::Objects, "file:objects"),
    ]
}

fn bindings_for(declarations: &[BindingDeclaration], state: &Path, container_id: &str) -> Bindings {
    let policy = Arc::new(Policy::closed());
    let identity = identity(container_id);
    let secrets = Arc::new(Secrets::load(&policy, state, &identity).unwrap());
    let upstream = Arc::new(Upstream::new(policy, TlsMaterial::default(), Arc::clone(&secrets)));
    Bindings::new(declarations, state, &identity, (&secrets, &upstream), None)
}

fn bindings(state: &Path) -> Bindings {
    bindings_for(&embedded(), state, "c")
}

impl Bindings {
    async fn do_kv(&self, operation: KvOperation) -> Result<Answer, Fault> {
        self.kv("kv", operation).await.map_err(|error| error.fault)
    }

    async fn value(&self, key: &str) -> Option<Bytes> {
        match self.do_kv(KvOperation::Get(key.into())).await.unwrap() {
            Answer::Bytes(value) => Some(value),
            Answer::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    async fn write(&self, key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> Result<(), Fault> {
        let done = self.do_kv(KvOperation::Put { key: key.into(), value: value.into(), ttl }).await?;
        assert!(matches!(done, Answer::Done), "{done:?}");
        Ok(())
    }

    async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Fault> {
        match self.do_kv(KvOperation::Increment { key: key.into(), by, ttl }).await? {
            Answer::Number(sum) => Ok(sum),
            other => panic!("{other:?}"),
        }
    }

    async fn keys(&self, start: &str) -> Vec<String> {
        match self.do_kv(KvOperation::List(start.into())).await.unwrap() {
            Answer::Keys(keys) => keys.into_iter().map(String::from).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn do_objects(
        &self,
        operation: ObjectsOperation,
        content: Option<ObjectContent>,
    ) -> Result<(Answer, Option<ObjectReader>), Fault> {
        self.objects("objects", operation, content).await.map_err(|error| error.fault)
    }

    async fn put_object(&self, key: &str, body: BodySource, content_type: Option<&str>) -> Result<(), Fault> {
        let put = ObjectsOperation::Put { key: key.into(), body, content_type: content_type.map(Box::from) };
        self.do_objects(put, None).await.map(|_| ())
    }

    async fn stream_object(&self, key: &str, content: ObjectContent) -> Result<(), Fault> {
        let body = BodySource::Handle(BodyHandle(1));
        let put = ObjectsOperation::Put { key: key.into(), body, content_type: None };
        self.do_objects(put, Some(content)).await.map(|_| ())
    }

    async fn object(&self, key: &str) -> Option<(Object, Vec<u8>)> {
        match self.do_objects(ObjectsOperation::Get(key.into()), None).await.unwrap() {
            (Answer::Object(object), Some(content)) => {
                let content = whole(content).await;
                assert_eq!(object.length, content.len() as u64);
                Some((object, content.to_vec()))
            }
            (Answer::Nothing, None) => None,
            other => panic!("{other:?}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the content is a test's own")]
async fn whole(content: ObjectReader) -> Bytes {
    content.collect().await.unwrap().to_bytes()
}

/// A body that the test feeds; it breaks off when told to.
fn fed() -> (mpsc::Sender<Result<Bytes, &'static str>>, ObjectContent) {
    struct Fed(mpsc::Receiver<Result<Bytes, &'static str>>);
    impl http_body::Body for Fed {
        type Data = Bytes;
        type Error = Box<dyn std::error::Error + Send + Sync>;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.poll_recv(cx).map(|next| next.map(|bytes| bytes.map(Frame::data).map_err(Into::into)))
        }
    }
    let (sender, receiver) = mpsc::channel(1);
    (sender, Fed(receiver).boxed_unsync())
}

/// The files below a folder, whatever they are called.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn nothing_is_there_before_it_is_used() {
    let state = tempfile::tempdir().unwrap();
    let bindings = bindings(state.path());
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    assert_eq!(bindings.value("a").await, None);
    let folder = state.path().join("kv");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!state.path().join("objects").exists());
}

#[tokio::test]
async fn hostile_keys_are_keys_and_stay_in_the_folder() {
    let outer = tempfile::tempdir().unwrap();
    let state = outer.path().join("a/b/c");
    let bindings = bindings(&state);
    let long = "é".repeat(256);
    let keys = [
        "../x",
        "../../../../x",
        "/etc/passwd",
        "..",
        ".",
        "/",
        "a/../b",
        "a\0b",
        ".partial",
        "a\n",
        " ",
        &long,
    ];
    for key in keys {
        bindings.write(key, key.to_owned(), None).await.unwrap();
        bindings
            .put_object(key, BodySource::Bytes(Bytes::copy_from_slice(key.as_bytes())), None)
            .await
            .unwrap();
    }
    for key in keys {
        assert_eq!(bindings.value(key).await.unwrap(), key);
        assert_eq!(bindings.object(key).await.unwrap().1, key.as_bytes());
    }
    let mut sorted = keys.map(ToOwned::to_owned).to_vec();
    sorted.sort_unstable();
    assert_eq!(bindings.keys("").await, sorted);
    let inside = [state.join("kv"), state.join("objects")].map(|folder| files(&folder).len());
    assert_eq!(inside, [keys.len(); 2]);
    assert_eq!(files(outer.path()).len(), 2 * keys.len());
    assert_eq!(bindings.write("", "", None).await, Err(Fault::Key));
    assert_eq!(bindings.write(&"a".repeat(513), "", None).await, Err(Fault::Key));
}

#[tokio::test]
async fn a_prefix_keeps_containers_apart() {
    let state = tempfile::tempdir().unwrap();
    let mut declarations = embedded();
    for declaration in &mut declarations {
        declaration.prefix = Some("{container_id}/".into());
    }
    let (one, two) =
        (bindings_for(&declarations, state.path(), "1"), bindings_for(&declarations, state.path(), "2"));
    one.write("a", "one", None).await.unwrap();
    two.write("a", "two", None).await.unwrap();
    two.put_object("x", BodySource::Empty, None).await.unwrap();
    assert_eq!(one.value("a").await.unwrap(), "one");
    assert_eq!(one.value("../2/a").await, None);
    assert_eq!(one.value("/../2/a").await, None);
    assert_eq!(one.keys("").await, ["a"]);
    assert!(one.keys("../2").await.is_empty());
    assert!(one.object("x").await.is_none());
    assert!(one.object("../2/x").await.is_none());
}

#[tokio::test]
async fn names_and_kinds_are_told_apart() {
    let state = tempfile::tempdir().unwrap();
    let mut declarations = embedded();
    declarations.push(declaration("bad", BindingKind::Kv, "file:../x"));
    declarations.push(declaration("odd", BindingKind::Objects, "redis://127.0.0.1"));
    let bindings = bindings_for(&declarations, state.path(), "c");
    let get = || KvOperation::Get("a".into());
    for (name, fault) in [("objects", Fault::Unknown), ("none", Fault::Unknown), ("odd", Fault::Unknown)] {
        assert_eq!(bindings.kv(name, get()).await.unwrap_err().fault, fault, "{name}");
    }
    let error = bindings.kv("bad", get()).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Declaration(_)));
    assert_eq!(
        crate::causes::in_words(&error),
        "binding bad: the policy's declaration cannot be used: file: names a folder below the state folder"
    );
    let head = ObjectsOperation::Head("a".into());
    assert!(matches!(bindings.objects("odd", head, None).await.unwrap_err().fault, Fault::Declaration(_)));
}

#[tokio::test]
async fn a_store_that_nobody_serves_is_unreachable() {
    let state = tempfile::tempdir().unwrap();
    // Nobody else gets a port that is bound, and nobody listens on it.
    let held = TcpSocket::new_v4().unwrap();
    held.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let free = held.local_addr().unwrap();
    let mut bucket = declaration("objects", BindingKind::Objects, "s3://b");
    bucket.endpoint = Some(format!("http://{free}").into());
    let declarations = [declaration("kv", BindingKind::Kv, &format!("redis://{free}")), bucket];
    let bindings = bindings_for(&declarations, state.path(), "c");
    assert_eq!(bindings.write("a", "1", None).await, Err(Fault::Unreachable));
    let head = bindings.do_objects(ObjectsOperation::Head("a".into()), None).await;
    assert_eq!(head.unwrap_err(), Fault::Unreachable);
}

#[tokio::test]
async fn what_is_as_it_was_is_taken_over() {
    let state = tempfile::tempdir().unwrap();
    let old = bindings(state.path());
    let mut declarations = embedded();
    declarations[0].prefix = Some("x".into());
    let outside = (&old.secrets, &old.upstream);
    let new = Bindings::new(&declarations, state.path(), &identity("c"), outside, Some(&old));
    let same = |index: usize| Arc::ptr_eq(&old.bindings[index].store, &new.bindings[index].store);
    assert_eq!((same(0), same(1)), (false, true));
}
