//! Placeholders become slots where they can, and go nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderName;
use http::header::AUTHORIZATION;
use sluicegate_policy::{
    BasicAuth, BodyPart, BodySource, Encoding, HeaderEdit, QueryEdit, Template, TemplatePart,
};

use super::*;
use crate::bindings::policy::log::{Host as _, Level};
use crate::bindings::policy::reveal::Host as _;
use crate::bindings::policy::secrets::Host as _;
use crate::bindings::policy::{approval, kv, objects};

fn slot(prefix: &str, suffix: &str) -> Template {
    Template::from_parts(vec![
        TemplatePart::Literal(prefix.into()),
        TemplatePart::Secret(secret("TOKEN")),
        TemplatePart::Literal(suffix.into()),
    ])
}

async fn with_header(name: &str, value: impl FnOnce(&str) -> String) -> Result<OutgoingRequest, Error> {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    let request = world.request();
    told(world.state.set_header(lent(&request), name.to_owned(), value(&token)))?;
    world.send(request).await
}

async fn to_url(url: impl FnOnce(&str) -> String) -> Result<OutgoingRequest, Error> {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    let request = world.create(&url(&token));
    world.send(request).await
}

#[tokio::test]
async fn c01_a_placeholder_in_a_header_becomes_a_slot() {
    let sent = with_header("X-Key", |token| format!("token {token}!")).await.unwrap();
    let edit = HeaderEdit::Set(HeaderName::from_static("x-key"), slot("token ", "!"));
    assert_eq!(sent.secrets.headers, [edit]);
    assert!(!sent.headers.contains_key("x-key"));
    assert!(sent.is_workloads);
}

#[tokio::test]
async fn c01_basic_authentication_is_seen_through() {
    for scheme in ["Basic", "basic"] {
        let encoded = |token: &str| format!("{scheme} {}", BASE64.encode(format!("robot:a{token}")));
        let sent = with_header("authorization", encoded).await.unwrap();
        let username = Template::from_parts(vec![TemplatePart::Literal("robot".into())]);
        assert_eq!(sent.secrets.basic_auth, Some(BasicAuth { username, password: slot("a", "") }));
        assert!(sent.secrets.headers.is_empty() && !sent.headers.contains_key(AUTHORIZATION));
    }
    let plain = with_header("authorization", |_| "Basic dTpw".to_owned()).await.unwrap();
    assert_eq!(plain.headers[AUTHORIZATION], "Basic dTpw");
    let no_colon = |token: &str| format!("Basic {}", BASE64.encode(token));
    assert!(with_header("authorization", no_colon).await.is_err());
}

#[tokio::test]
async fn a_header_with_a_secret_has_one_value() {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    let request = world.request();
    told(world.state.append_header(lent(&request), "accept".into(), token.clone())).unwrap();
    assert!(invalid(world.state.fetch(request, None).await).contains("accept"));
    assert!(with_header("x-key", |token| format!("\u{e9}{token}")).await.is_err(), "not ASCII");
    assert!(with_header("x-key", |token| token.strip_suffix("0_").unwrap().to_owned()).await.is_err(), "cut");
    assert!(world.effects().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn c09_a_header_is_not_named_by_a_secret() {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    let request = world.request();
    told(world.state.set_header(lent(&request), token.clone(), "x".into())).unwrap();
    assert!(invalid(world.state.fetch(request, None).await).contains("not its name"));
    let headers = plain(&[(&token, "x")]);
    let response = told(api::HostResponse::create(&mut world.state, 200, headers, None)).unwrap();
    assert_eq!(invalid(world.state.take_response(response)), "a secret cannot be put into a response");
}

#[tokio::test]
async fn c01_a_placeholder_in_the_query_becomes_a_slot() {
    let sent =
        to_url(|token| format!("https://api.example.test/a?x=1&k%65y=p+{token}%21&y=2")).await.unwrap();
    assert_eq!(sent.path_and_query, "/a?x=1&y=2");
    assert_eq!(sent.secrets.query, [QueryEdit { name: "key".into(), value: slot("p ", "!") }]);
    assert!(!sent.is_workloads);
    let sent = to_url(|token| format!("https://api.example.test/a?key={token}")).await.unwrap();
    assert_eq!(sent.path_and_query, "/a");
}

#[tokio::test]
async fn c09_elsewhere_in_a_url_a_placeholder_is_refused() {
    for url in [
        |token: &str| format!("https://{token}.example.test/"),
        |token: &str| format!("https://api.example.test/{token}/x"),
        |token: &str| format!("https://api.example.test/?{token}=1"),
        |token: &str| format!("https://api.example.test/?{token}"),
        |token: &str| format!("https://api.example.test/?a={token}&a=1"),
        |token: &str| format!("https://api.example.test/?a={token}&%61={token}"),
        |token: &str| format!("https://api.example.test/?a=%C3%A9{token}"),
    ] {
        let mut world = world();
        let token = world.placeholder("TOKEN");
        let sent = match told(world.state.create_request("GET", &url(&token))) {
            Ok(request) => world.send(request).await.map(drop),
            // A host of that shape is no host in the first place.
            Err(error) => Err(error),
        };
        assert!(matches!(sent, Err(Error::Invalid(_))), "{}", url("T"));
        assert!(world.effects().is_empty());
    }
}

#[tokio::test]
async fn c01_a_body_is_filled_in_for_its_media_type() {
    for (media_type, encoding) in [
        ("application/json; charset=utf-8", Encoding::Json),
        ("application/vnd.api+json", Encoding::Json),
        ("application/x-www-form-urlencoded", Encoding::Form),
        ("text/plain", Encoding::Raw),
        ("", Encoding::Raw),
    ] {
        let mut world = world();
        let token = world.placeholder("TOKEN");
        let request = world.request();
        told(world.state.set_header(lent(&request), "content-type".into(), media_type.into())).unwrap();
        let body = world.body(&format!("a={token}&b"));
        world.state.set_body(lent(&request), Some(body)).unwrap();
        let parts = vec![
            BodyPart::Literal("a=".into()),
            BodyPart::Secret(secret("TOKEN"), encoding),
            BodyPart::Literal("&b".into()),
        ];
        assert_eq!(world.send(request).await.unwrap().body, BodySource::Filled(parts), "{media_type}");
    }
}

#[tokio::test]
async fn the_secrets_of_one_request_are_counted() {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    let query = (0..32).map(|n| format!("p{n}={token}")).collect::<Vec<_>>().join("&");
    let fits = world.create(&format!("https://api.example.test/?{query}"));
    assert_eq!(world.send(fits).await.unwrap().secrets.query.len(), 32);
    let over = world.create(&format!("https://api.example.test/?{query}"));
    told(world.state.set_header(lent(&over), "x-key".into(), token.clone())).unwrap();
    assert!(invalid(world.state.fetch(over, None).await).contains("more than 32 secrets"));
    let request = world.create("https://api.example.test/");
    let body = world.body(&token.repeat(33));
    world.state.set_body(lent(&request), Some(body)).unwrap();
    assert!(invalid(world.state.fetch(request, None).await).contains("more than 32 secrets"));
}

#[tokio::test]
async fn c09_no_secret_goes_into_responses_or_stores() {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    let text = format!("a {token}");
    let state = &mut world.state;
    let headers = plain(&[("x-key", &text)]);
    let response = told(api::HostResponse::create(state, 200, headers, None)).unwrap();
    assert_eq!(invalid(state.take_response(response)), "a secret cannot be put into a response");
    let body = state.new(text.clone().into_bytes()).unwrap();
    let response = told(api::HostResponse::create(state, 200, Vec::new(), Some(body))).unwrap();
    assert_eq!(invalid(state.respond(response).await), "a secret cannot be put into a response");
    let (key, content) = ("k".to_owned(), text.clone().into_bytes());
    invalid(kv::Host::put(state, "kv".into(), key.clone(), content.clone(), None).await);
    invalid(kv::Host::put(state, "kv".into(), text.clone(), Vec::new(), None).await);
    invalid(kv::Host::get(state, "kv".into(), text.clone()).await);
    invalid(kv::Host::list_keys(state, "kv".into(), text.clone()).await);
    let body = state.new(content.clone()).unwrap();
    invalid(objects::Host::put(state, "objects".into(), key, body, None).await);
    invalid(objects::Host::head(state, "objects".into(), text.clone()).await);
    invalid(state.hmac_sha256("TOKEN".into(), content).await);
    assert!(world.effects().is_empty());
}

#[tokio::test]
async fn people_are_shown_the_names_of_secrets() {
    let mut world = world();
    let token = world.placeholder("TOKEN");
    world.state.write(Level::Info, format!("got {token}"), format!("{{\"a\":\"{token}\"}}")).unwrap();
    told(approval::Host::ask(&mut world.state, format!("send {token}?"), 5).await).unwrap();
    let lines = world.log.lock().unwrap().clone();
    assert_eq!(&*lines[0].message, "got <secret TOKEN>");
    assert_eq!(lines[0].fields["a"], "<secret TOKEN>");
    assert!(
        matches!(&world.effects()[..], [Effect::Ask { reason, .. }] if &**reason == "send <secret TOKEN>?")
    );
}

#[tokio::test]
async fn a_placeholder_is_of_one_request_and_a_known_secret() {
    let (mut one, mut two) = (world(), world());
    assert_ne!(one.placeholder("TOKEN"), two.placeholder("TOKEN"));
    assert_ne!(one.placeholder("TOKEN"), one.placeholder("OTHER"));
    let of_another = two.placeholder("TOKEN");
    let request = one.request();
    told(one.state.set_header(lent(&request), "x-key".into(), of_another.clone())).unwrap();
    let sent = one.send(request).await.unwrap();
    assert_eq!((sent.headers["x-key"].to_str().unwrap(), sent.secrets.is_empty()), (&*of_another, true));
    let message = invalid(one.state.placeholder("NONE".into()));
    assert_eq!(message, "there is no secret NONE: say [secrets.NONE] in the document");
}

#[tokio::test]
async fn only_what_was_granted_is_revealed() {
    let mut world = world();
    assert_eq!(told(world.state.reveal("TOKEN".into()).await).unwrap(), b"bytes");
    assert!(invalid(world.state.reveal("OTHER".into()).await).contains("reveal = [\"OTHER\"]"));
    assert!(invalid(world.state.reveal("NONE".into()).await).contains("there is no secret NONE"));
    assert!(matches!(&world.effects()[..], [Effect::Reveal(name)] if *name == secret("TOKEN")));
}

#[tokio::test]
async fn a_signature_needs_no_bytes() {
    let mut world = world();
    assert_eq!(told(world.state.hmac_sha256("OTHER".into(), b"x".to_vec()).await).unwrap(), b"bytes");
    assert!(matches!(
        &world.effects()[..],
        [Effect::Hmac { secret: name, data }] if *name == secret("OTHER") && data == "x"
    ));
}
