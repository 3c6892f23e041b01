//! Bodies: read, peeked at, taken in pieces, copied, sent, dropped.

use sluicegate_policy::BodySource;

use super::*;

impl World {
    fn workloads(&mut self) -> Resource<Body> {
        let request = self.request();
        self.state.take_body(request).unwrap().unwrap()
    }

    async fn send_body(&mut self, body: Resource<Body>) -> Result<BodySource, Error> {
        let request = self.create("https://api.example.test/");
        self.state.set_body(lent(&request), Some(body)).unwrap();
        Ok(self.send(request).await?.body)
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_is_passed_on() {
    let mut world = world();
    let request = world.request();
    assert!(world.state.has_body(lent(&request)).unwrap());
    let sent = world.send(request).await.unwrap();
    assert_eq!(sent.body, BodySource::Handle(BodyHandle::WORKLOAD));
    assert_eq!(sent.headers["content-length"], "5");
}

#[tokio::test]
async fn its_length_is_stated_only_of_the_same_body() {
    let mut world = world();
    let request = world.request();
    let body = world.state.take_body(lent(&request)).unwrap();
    world.state.set_body(lent(&request), body).unwrap();
    assert_eq!(world.send(request).await.unwrap().headers["content-length"], "5");
    let request = world.request();
    let other = world.body("longer than five");
    world.state.set_body(lent(&request), Some(other)).unwrap();
    assert!(!world.send(request).await.unwrap().headers.contains_key("content-length"));

    let request = world.create("https://api.example.test/");
    let response = told(world.state.fetch(request, None).await).unwrap();
    let untouched = told(world.state.take_response(response)).unwrap();
    assert_eq!(untouched.headers["content-length"], "5");
    let request = world.create("https://api.example.test/");
    let response = told(world.state.fetch(request, None).await).unwrap();
    api::HostResponse::set_body(&mut world.state, lent(&response), None).unwrap();
    let emptied = told(world.state.take_response(response)).unwrap();
    assert!(!emptied.headers.contains_key("content-length"));
}

#[tokio::test]
async fn a_body_that_was_read_stands_for_its_bytes() {
    let mut world = world();
    let body = world.workloads();
    assert_eq!(told(world.state.read(lent(&body), 100).await).unwrap(), b"hello");
    assert_eq!(told(world.state.read(lent(&body), 100).await).unwrap(), b"hello");
    assert_eq!(invalid(world.state.read(lent(&body), 4).await), "the body is longer than 4 bytes");
    assert_eq!(world.effects().len(), 1);
    assert_eq!(world.send_body(body).await.unwrap(), BodySource::Bytes("hello".into()));
}

#[tokio::test]
async fn the_document_bounds_what_is_read() {
    let mut environment = environment();
    environment.limits.body_bytes = 1000;
    let mut world = world_of(environment, |_| Answer::Failed("longer".into()));
    let body = world.workloads();
    let read = told(world.state.read(lent(&body), u32::MAX).await);
    assert!(matches!(read, Err(Error::Failed(why)) if why == "longer"));
    assert!(matches!(world.effects()[..], [Effect::ReadBody { limit: 1000, .. }]));
    assert!(invalid(world.state.read(lent(&body), 1).await).contains("gone"));
    assert!(matches!(world.send_body(body).await, Err(Error::Invalid(_))));
    ended(world.state.new(vec![0; 1001]).map_err(Refused::from));
    assert!(world.state.stopped().unwrap().message.contains("body_bytes"));
}

#[tokio::test]
async fn a_peek_leaves_it_whole() {
    let mut world = world();
    let body = world.workloads();
    assert_eq!(told(world.state.peek(lent(&body), 2).await).unwrap(), b"he");
    assert_eq!(world.send_body(body).await.unwrap(), BodySource::Handle(BodyHandle::WORKLOAD));
    let body = world.body("abc");
    assert_eq!(told(world.state.peek(lent(&body), 2).await).unwrap(), b"ab");
    assert_eq!(told(world.state.peek(lent(&body), 9).await).unwrap(), b"abc");
}

#[tokio::test]
async fn a_body_that_was_begun_cannot_be_sent() {
    let mut world = world();
    let body = world.workloads();
    assert_eq!(told(world.state.next_chunk(lent(&body)).await).unwrap().unwrap(), b"he");
    invalid(world.state.read(lent(&body), 9).await);
    invalid(world.state.peek(lent(&body), 9).await);
    invalid(world.state.tee(lent(&body)).await);
    let request = world.create("https://api.example.test/");
    world.state.set_body(lent(&request), Some(body)).unwrap();
    invalid(world.state.fetch(request, None).await);
    // What could not be sent is dropped, before the next effect.
    let request = world.create("https://api.example.test/");
    told(world.state.fetch(request, None).await).unwrap();
    assert!(matches!(
        world.effects()[..],
        [Effect::NextChunk(BodyHandle(0)), Effect::DropBody(BodyHandle(0)), Effect::Fetch(_)]
    ));
}

#[tokio::test]
async fn chunks_come_to_an_end() {
    let mut chunks = vec![Answer::Nothing, Answer::Bytes("a".into())];
    let mut world = world_of(environment(), move |_| chunks.pop().unwrap());
    let body = world.workloads();
    assert_eq!(told(world.state.next_chunk(lent(&body)).await).unwrap().unwrap(), b"a");
    for _ in 0..3 {
        assert!(told(world.state.next_chunk(lent(&body)).await).unwrap().is_none());
    }
    let body = world.body("abc");
    assert_eq!(told(world.state.next_chunk(lent(&body)).await).unwrap().unwrap(), b"abc");
    assert!(told(world.state.next_chunk(lent(&body)).await).unwrap().is_none());
    assert_eq!(world.effects().len(), 2);
}

#[tokio::test]
async fn a_copy_that_nobody_wants_is_given_up() {
    let mut world = world();
    let body = world.workloads();
    let copy = told(world.state.tee(lent(&body)).await).unwrap();
    HostBody::drop(&mut world.state, copy).unwrap();
    assert_eq!(world.send_body(body).await.unwrap(), BodySource::Handle(BodyHandle::WORKLOAD));
    assert!(matches!(
        world.effects()[..],
        [Effect::TeeBody(BodyHandle(0)), Effect::DropBody(BodyHandle(9)), Effect::Fetch(_)]
    ));
}

#[tokio::test]
async fn a_copy_in_a_dropped_message_is_given_up_too() {
    let mut world = world();
    let body = world.workloads();
    let copy = told(world.state.tee(lent(&body)).await).unwrap();
    let request = world.create("https://api.example.test/");
    world.state.set_body(lent(&request), Some(copy)).unwrap();
    HostRequest::drop(&mut world.state, request).unwrap();
    // Nothing waits for a body that was never begun.
    let unread = world.workloads();
    HostBody::drop(&mut world.state, unread).unwrap();
    assert_eq!(world.send_body(body).await.unwrap(), BodySource::Handle(BodyHandle::WORKLOAD));
    assert!(matches!(world.effects()[1..], [Effect::DropBody(BodyHandle(9)), Effect::Fetch(_)]));
}

#[tokio::test]
async fn a_body_in_memory_is_copied_here() {
    let mut world = world();
    let body = world.body("abc");
    let copy = told(world.state.tee(lent(&body)).await).unwrap();
    assert_eq!(told(world.state.read(lent(&copy), 9).await).unwrap(), b"abc");
    assert_eq!(world.send_body(body).await.unwrap(), BodySource::Bytes("abc".into()));
    assert_eq!(world.effects().len(), 1);
}
