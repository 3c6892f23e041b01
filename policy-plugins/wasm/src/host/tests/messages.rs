//! Requests, responses and the context, as programs see and write them.

use std::time::Duration;

use sluicegate_policy::BodySource;

use super::*;
use crate::bindings::policy::context::{Binding, Host as _};
use crate::bindings::policy::log::{Host as _, Level};

#[tokio::test]
async fn the_workloads_request_is_shown_as_it_came() {
    let mut world = world();
    let request = world.request();
    let state = &mut world.state;
    assert_eq!(HostRequest::method(state, lent(&request)).unwrap(), "POST");
    assert_eq!(state.url(lent(&request)).unwrap(), "https://api.example.test/v1/things?q=a+b%21&page=2");
    assert_eq!(state.scheme(lent(&request)).unwrap(), "https");
    assert_eq!(HostRequest::host(state, lent(&request)).unwrap(), "api.example.test");
    assert_eq!(state.port(lent(&request)).unwrap(), 443);
    assert_eq!(state.path(lent(&request)).unwrap(), "/v1/things");
    assert_eq!(state.query(lent(&request)).unwrap().unwrap(), "q=a+b%21&page=2");
    assert_eq!(HostRequest::header(state, lent(&request), "Accept".into()).unwrap(), ["a", "b"]);
    assert_eq!(HostRequest::headers(state, request).unwrap().len(), 5);
}

#[tokio::test]
async fn a_copy_is_another_request_of_the_workload() {
    let mut world = world();
    let request = world.request();
    let copy = world.state.copy(lent(&request)).unwrap();
    told(world.state.set_header(lent(&copy), "accept".into(), "c".into())).unwrap();
    let copy = world.send(copy).await.unwrap();
    assert!(copy.is_workloads);
    assert_eq!((copy.body, &copy.headers["accept"]), (BodySource::Empty, &HeaderValue::from_static("c")));
    assert!(!copy.headers.contains_key("content-length"));
    assert_eq!(world.send(request).await.unwrap().headers["accept"], "a");
}

#[tokio::test]
async fn headers_of_the_connection_stay_the_gates() {
    let mut world = world();
    let request = world.request();
    for name in ["host", "content-length", "Transfer-Encoding", "proxy-authorization"] {
        invalid(world.state.set_header(lent(&request), name.into(), "x".into()));
        invalid(world.state.append_header(lent(&request), name.into(), "x".into()));
        invalid(world.state.delete_header(lent(&request), name.into()));
    }
    let new = plain(&[("X-A", "1"), ("content-length", "99"), ("x-a", "\u{ff}")]);
    told(world.state.set_headers(lent(&request), new)).unwrap();
    let sent = world.send(request).await.unwrap().headers;
    assert_eq!(sent["content-length"], "5");
    assert!(sent.contains_key("host") && !sent.contains_key("accept"));
    assert_eq!(
        sent.get_all("x-a").iter().map(HeaderValue::as_bytes).collect::<Vec<_>>(),
        [&b"1"[..], b"\xff"]
    );
}

#[tokio::test]
async fn what_is_no_header_changes_nothing() {
    let mut world = world();
    let request = world.request();
    for headers in [&[("a b", "x")][..], &[("x", "a\nb")], &[("x", "\u{100}")], &[("x", "1"), ("", "2")]] {
        invalid(world.state.set_headers(lent(&request), plain(headers)));
    }
    let many = vec![("a".to_owned(), "b".to_owned()); 300];
    assert!(invalid(world.state.set_headers(lent(&request), many)).contains("256"));
    let long = "x".repeat(16 * 1024 + 1);
    assert!(invalid(world.state.set_header(lent(&request), "x".into(), long)).contains("longer"));
    assert_eq!(world.send(request).await.unwrap().headers.len(), 5);
}

#[tokio::test]
async fn urls_and_methods_are_read_as_in_scripts() {
    let mut world = world();
    let request = world.request();
    for url in ["", "/x", "ftp://a.test/", "https://a.test/#x", "https://u@a.test/", "https://127.1/"] {
        invalid(world.state.set_url(lent(&request), url.into()));
        invalid(world.state.create_request("GET", url));
    }
    for method in ["", "get", "CONNECT", "A B"] {
        invalid(world.state.set_method(lent(&request), method.into()));
    }
    told(world.state.set_url(lent(&request), "http://EXAMPLE.test:80/a?b".into())).unwrap();
    told(world.state.set_method(lent(&request), "PUT".into())).unwrap();
    assert_eq!(world.state.url(lent(&request)).unwrap(), "http://example.test/a?b");
    let sent = world.send(request).await.unwrap();
    assert_eq!((sent.method.as_str(), sent.scheme.as_str()), ("PUT", "http"));
}

#[tokio::test]
async fn a_fetch_tells_what_came_of_it() {
    let mut answers = vec![Answer::Done, Answer::TimedOut, Answer::Failed("no route".into())];
    let mut world = world_of(environment(), move |_| answers.pop().unwrap());
    let mut ask = async |timeout| {
        let request = world.create("https://api.example.test/");
        let result = world.state.fetch(request, timeout).await;
        (result, world.effects().pop())
    };
    let (failed, effect) = ask(None).await;
    assert!(matches!(told(failed), Err(Error::Failed(why)) if why == "no route"));
    assert!(matches!(effect, Some(Effect::Fetch(request)) if request.timeout.is_none()));
    let (timed_out, effect) = ask(Some(250)).await;
    assert!(matches!(told(timed_out), Err(Error::TimedOut)));
    let timeout = Some(Duration::from_millis(250));
    assert!(matches!(effect, Some(Effect::Fetch(request)) if request.timeout == timeout));
    ended(ask(None).await.0);
    assert!(world.state.stopped().unwrap().message.contains("wrong kind"));
}

#[tokio::test]
async fn responses_are_checked() {
    let mut world = world();
    let state = &mut world.state;
    for status in [0, 100, 199, 600] {
        invalid(api::HostResponse::create(state, status, Vec::new(), None));
    }
    let body = state.new(b"x".to_vec()).unwrap();
    let response = told(api::HostResponse::create(state, 204, Vec::new(), Some(body))).unwrap();
    assert!(invalid(state.take_response(response)).contains("204"));
    let body = state.new(b"x".to_vec()).unwrap();
    let headers = plain(&[("content-length", "9"), ("x-a", "1")]);
    let response = told(api::HostResponse::create(state, 418, headers, Some(body))).unwrap();
    api::HostResponse::tap_body(state, lent(&response), u32::MAX).unwrap();
    let sent = told(state.take_response(response)).unwrap();
    assert_eq!((sent.status.as_u16(), sent.body), (418, BodySource::Bytes("x".into())));
    assert_eq!((sent.headers.len(), sent.tap), (1, Some(65_536)));
}

#[tokio::test]
async fn the_workload_is_answered_once() {
    let mut world = world();
    for n in 0..2 {
        let response = told(api::HostResponse::create(&mut world.state, 200, Vec::new(), None)).unwrap();
        assert_eq!(told(world.state.respond(response).await).is_ok(), n == 0);
        assert!(world.state.has_responded());
    }
    assert!(matches!(&world.effects()[..], [Effect::Respond(response)] if response.status == StatusCode::OK));
}

#[tokio::test]
async fn a_connection_is_not_answered() {
    let mut world = world();
    world.state.input.subject =
        sluicegate_policy::Subject::Connection(sluicegate_policy::FlowFacts::default());
    let response = told(api::HostResponse::create(&mut world.state, 200, Vec::new(), None)).unwrap();
    assert!(invalid(world.state.respond(response).await).contains("there is no request to answer"));
    assert!(!world.state.has_responded() && world.effects().is_empty());
    assert_eq!(world.state.current().unwrap().protocol, "");
    let flow = world.state.flow().unwrap();
    assert_eq!((&*flow.host, flow.port, flow.tls), ("api.example.test", 443, false));
}

#[tokio::test]
async fn the_context_is_the_gates() {
    let mut world = world();
    let context = world.state.current().unwrap();
    assert_eq!((&*context.handler, &*context.params), ("gate", r#"{"a":1}"#));
    assert_eq!((&*context.original_destination, &*context.protocol), ("0.0.0.0:443", "HTTP/1.1"));
    let environment = world.state.environment().unwrap();
    let names: Vec<_> = environment.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["TOKEN", "OTHER", "kv", "objects", "TEAM"]);
    assert!(matches!(&environment[0].1, Binding::Secret));
    assert!(matches!(&environment[4].1, Binding::Constant(json) if json == "\"blue\""));
}

#[tokio::test]
async fn what_is_logged_is_bounded_and_never_lost() {
    let mut world = world();
    world.state.write(Level::Warn, "x".repeat(3000), r#"{"n":1}"#.into()).unwrap();
    world.state.write(Level::Info, "a".into(), "[1]".into()).unwrap();
    world.state.write(Level::Info, "b".into(), format!("{{\"a\":\"{}\"}}", "x".repeat(20_000))).unwrap();
    let lines = world.log.lock().unwrap().clone();
    assert_eq!((lines[0].message.len(), &lines[0].fields["n"]), (1024, &serde_json::json!(1)));
    assert_eq!((&*lines[1].message, lines[1].fields.len()), ("a [1]", 0));
    assert_eq!((lines[2].message.len(), lines[2].fields.len()), (1024, 0));
}
