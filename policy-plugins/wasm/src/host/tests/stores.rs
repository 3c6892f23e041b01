//! Bindings and people.

use std::time::Duration;

use sluicegate_policy::{BodySource, KvOperation, Object, ObjectsOperation};

use super::*;
use crate::bindings::policy::{approval, kv, objects};

#[tokio::test]
async fn a_binding_is_of_its_kind() {
    let mut world = world();
    let state = &mut world.state;
    let message = invalid(kv::Host::get(state, "objects".into(), "k".into()).await);
    assert_eq!(message, "binding objects is of kind objects, and not of kind kv");
    let message = invalid(objects::Host::get(state, "x".into(), "k".into()).await);
    assert_eq!(message, "env has no x: say [bindings.x] or put it under [env] in the document");
    invalid(kv::Host::get(state, "TOKEN".into(), "k".into()).await);
    invalid(kv::Host::get(state, "kv".into(), String::new()).await);
    assert!(world.effects().is_empty());
}

#[tokio::test]
async fn values_are_stored_by_key() {
    let mut world = world_of(environment(), |effect| match effect {
        Effect::Kv { operation: KvOperation::Get(key), .. } if &**key == "k" => Answer::Bytes("v".into()),
        Effect::Kv { operation: KvOperation::Get(_), .. } => Answer::Nothing,
        Effect::Kv { operation: KvOperation::List(_), .. } => Answer::Keys(vec!["a".into(), "b".into()]),
        Effect::Kv { operation: KvOperation::Increment { .. }, .. } => Answer::Number(-3),
        _ => Answer::Done,
    });
    let state = &mut world.state;
    assert_eq!(told(kv::Host::get(state, "kv".into(), "k".into()).await).unwrap().unwrap(), b"v");
    assert!(told(kv::Host::get(state, "kv".into(), "none".into()).await).unwrap().is_none());
    assert_eq!(told(kv::Host::list_keys(state, "kv".into(), String::new()).await).unwrap(), ["a", "b"]);
    assert_eq!(told(kv::Host::increment(state, "kv".into(), "n".into(), -3, None).await).unwrap(), -3);
    told(kv::Host::put(state, "kv".into(), "k".into(), b"w".to_vec(), Some(60)).await).unwrap();
    told(kv::Host::delete(state, "kv".into(), "k".into()).await).unwrap();
    for seconds in [0, 10 * 365 * 86_400 + 1] {
        invalid(kv::Host::put(state, "kv".into(), "k".into(), Vec::new(), Some(seconds)).await);
    }
    let most = environment().limits.body_bytes;
    invalid(kv::Host::put(state, "kv".into(), "k".into(), vec![0; most + 1], None).await);
    let put = KvOperation::Put { key: "k".into(), value: "w".into(), ttl: Some(Duration::from_secs(60)) };
    assert!(
        matches!(&world.effects()[4], Effect::Kv { binding, operation } if &**binding == "kv" && *operation == put)
    );
    assert_eq!(world.effects().len(), 6);
}

#[tokio::test]
async fn objects_stream() {
    let object =
        Object { body: Some(BodyHandle(4)), length: 5, content_type: Some("a/b".into()), etag: None };
    let mut world = world_of(environment(), move |effect| match effect {
        Effect::Objects { operation: ObjectsOperation::Get(_), .. } => Answer::Object(object.clone()),
        Effect::Objects { operation: ObjectsOperation::Head(_), .. } => Answer::Nothing,
        _ => Answer::Done,
    });
    let state = &mut world.state;
    let (metadata, body) =
        told(objects::Host::get(state, "objects".into(), "k".into()).await).unwrap().unwrap();
    assert_eq!((metadata.length, metadata.content_type.as_deref()), (5, Some("a/b")));
    assert!(told(objects::Host::head(state, "objects".into(), "k".into()).await).unwrap().is_none());
    let again = ("objects".to_owned(), "k2".to_owned());
    told(objects::Host::put(state, again.0, again.1, body, Some("a/b".into())).await).unwrap();
    let body = state.new(Vec::new()).unwrap();
    invalid(objects::Host::put(state, "objects".into(), "k".into(), body, Some("a\nb".into())).await);
    let effects = world.effects();
    assert_eq!(effects.len(), 3);
    assert!(matches!(
        &effects[2],
        Effect::Objects {
            operation: ObjectsOperation::Put { body: BodySource::Handle(BodyHandle(4)), .. },
            ..
        }
    ));
}

#[tokio::test]
async fn without_a_yes_a_program_does_not_go_on() {
    let mut answers = vec![Answer::Failed("nobody".into()), Answer::Done];
    let mut world = world_of(environment(), move |_| answers.pop().unwrap());
    for seconds in [0, 601] {
        invalid(world.state.ask_a_person(seconds).await);
    }
    told(world.state.ask_a_person(600).await).unwrap();
    ended(world.state.ask_a_person(1).await);
    assert_eq!(world.state.stopped().unwrap().message, "nobody could be asked");
}

impl State {
    async fn ask_a_person(&mut self, seconds: u32) -> Result<(), Refused> {
        approval::Host::ask(self, "really?".into(), seconds).await
    }
}
