//! Secrets go into slots and nowhere else.

use super::*;
use crate::edits::{HeaderEdit, QueryEdit};
use crate::template::{Template, TemplatePart};

fn slot(prefix: &str, suffix: &str) -> Template {
    Template::from_parts(vec![
        TemplatePart::Literal(prefix.into()),
        TemplatePart::Secret(secret("TOKEN")),
        TemplatePart::Literal(suffix.into()),
    ])
}

fn sent(text: &str) -> OutgoingRequest {
    let ran = body(&format!("let s = env.secrets.TOKEN; {text}; fetch(request)")).fetched();
    ran.request(0).clone()
}

#[test]
fn c01_a_secret_goes_into_a_header_by_name() {
    for (text, template) in [
        ("request.set_header(\"x-key\", s)", slot("", "")),
        ("request.set_header(\"X-Key\", \"token \", s)", slot("token ", "")),
        ("request.set_header(\"x-key\", \"a\", s, \"b\")", slot("a", "b")),
    ] {
        let edits = sent(text).secrets;
        assert_eq!(edits.headers, [HeaderEdit::Set(HeaderName::from_static("x-key"), template)], "{text}");
    }
    let request = sent("request.set_header(\"accept\", \"x\"); request.set_bearer(s); request.set_bearer(s)");
    let authorization = HeaderName::from_static("authorization");
    assert_eq!(request.secrets.headers, [HeaderEdit::Set(authorization, slot("Bearer ", ""))]);
}

#[test]
fn a_slot_and_a_plain_value_replace_each_other() {
    let request = sent("request.set_header(\"accept\", s)");
    assert!(!request.headers.contains_key("accept"));
    let request = sent("request.set_header(\"accept\", s); request.set_header(\"accept\", \"plain\")");
    assert_eq!((request.headers["accept"].as_bytes(), request.secrets.is_empty()), (&b"plain"[..], true));
    let request = sent("request.set_bearer(s); request.set_basic_auth(\"u\", s)");
    assert_eq!((request.secrets.headers.len(), request.secrets.basic_auth.is_some()), (0, true));
    let request = sent("request.set_basic_auth(\"u\", s); request.set_bearer(s)");
    assert_eq!((request.secrets.headers.len(), request.secrets.basic_auth.is_some()), (1, false));
    let request = sent("request.set_bearer(s); request.set_basic_auth(\"u\", \"p\")");
    assert_eq!(
        (request.headers["authorization"].as_bytes(), request.secrets.is_empty()),
        (&b"Basic dTpw"[..], true)
    );
    let request = sent("request.set_bearer(s); request.remove_header(\"Authorization\")");
    assert!(request.secrets.is_empty());
}

#[test]
fn queries_have_slots_too() {
    let request = sent("request.set_query(\"page\", s)");
    assert_eq!(request.secrets.query, [QueryEdit { name: "page".into(), value: slot("", "") }]);
    assert_eq!(request.path_and_query, "/v1/things?q=a+b%21");
    let request = sent("request.set_query(\"page\", s); request.set_query(\"page\", \"3\")");
    assert_eq!(
        (request.secrets.is_empty(), request.path_and_query.as_str()),
        (true, "/v1/things?q=a+b%21&page=3")
    );
}

#[test]
fn bodies_have_slots_encoded_for_where_they_stand() {
    let literal = |text: &'static str| BodyPart::Literal(text.into());
    let token = |encoding| BodyPart::Secret(secret("TOKEN"), encoding);
    let request = sent("request.set_json(#{ a: [s], b: \"x\\n\" })");
    let parts = vec![literal("{\"a\":[\""), token(Encoding::Json), literal("\"],\"b\":\"x\\n\"}")];
    assert_eq!(request.body, BodySource::Filled(parts));
    assert_eq!(request.headers["content-type"], "application/json");
    assert!(!request.headers.contains_key("content-length"));
    let request = sent("request.set_form(#{ a: \"x y&=ü\", n: 1, t: s })");
    let parts = vec![literal("a=x+y%26%3D%C3%BC&n=1&t="), token(Encoding::Form)];
    assert_eq!(request.body, BodySource::Filled(parts));
}

#[test]
fn what_is_read_back_is_the_name() {
    let text = r#"
        request.set_header("x-key", "prefix ", env.secrets.TOKEN);
        request.set_basic_auth("u", env.secrets.OTHER);
        request.set_query("key", env.secrets.TOKEN);
        reply(200, [request.header("X-Key"), request.header_all("authorization"), request.query_param("key"),
            "x-key" in request.header_names()])
    "#;
    assert_eq!(body(text).fetched().text(), r#"["<secret TOKEN>",["<secret OTHER>"],"<secret TOKEN>",true]"#);
}

#[test]
fn c09_everything_else_with_a_secret_is_refused_by_name() {
    for misuse in [
        "\"Bearer \" + s",
        "s + \"x\"",
        "s + s",
        "let t = \"x\"; t += s",
        "s == \"guess\"",
        "\"guess\" == s",
        "s != \"guess\"",
        "s < \"guess\"",
        "log(\"info\", s)",
        "log(\"info\", \"x\", #{ a: s })",
        "log(\"info\", \"x\", #{ a: [#{ b: s }] })",
        "to_json(s)",
        "to_json(#{ a: s })",
        "#{ a: s }.to_json()",
        "env.kv.put(\"k\", s)",
        "env.kv.put(\"k\", #{ a: s })",
        "env.objects.put(\"k\", s)",
        "base64_encode(s)",
        "sha256(s)",
        "hmac_sha256(\"k\", s)",
        "request.set_body(s)",
        "request.add_header(\"a\", s)",
        "reply(200, s)",
        "reply(200, #{ a: s })",
        "reply(200).set_header(\"a\", s)",
        "reply(200).set_json(#{ a: s })",
    ] {
        let message = thrown_by(&format!("let s = env.secrets.TOKEN; {misuse};"));
        assert!(message.contains("secret TOKEN can only be put into a slot"), "{misuse}: {message}");
    }
}

#[test]
fn c09_a_secret_in_a_text_ends_the_handler_even_where_errors_are_caught() {
    for misuse in
        ["`${s}`", "s.to_string()", "`${[s]}`", "#{ a: s }.to_string()", "[s] + \"\"", "s.to_debug()"]
    {
        let error = body(&format!(
            "let s = env.secrets.TOKEN; try {{ let t = {misuse}; }} catch {{}} fetch(request)"
        ))
        .fetched()
        .error();
        assert!(error.message.contains("secret TOKEN can only"), "{misuse}: {error}");
    }
}

#[test]
fn no_secret_leaves_by_a_response_or_a_store() {
    let text = "request.set_json(#{ a: env.secrets.TOKEN });";
    assert!(thrown_by(&format!("{text} reply(200, request.body)")).contains("only be sent with a request"));
    assert!(thrown_by(&format!("{text} env.objects.put(\"k\", request.body)")).contains("only be sent with"));
    assert!(thrown_by(&format!("{text} request.read_body(10)")).contains("cannot be read"));
}

#[test]
fn an_unknown_secret_is_named() {
    assert!(thrown_by("env.secrets.TOKE").contains("there is no secret TOKE"));
}

#[test]
fn c09_a_value_is_revealed_to_whom_it_is_granted() {
    let text = "reply(200, reveal(env.secrets.TOKEN))";
    let error = body(text).fetched().error();
    assert!(error.message.contains("reveal = [\"TOKEN\"]"), "{error}");
    let mut granted = body(text);
    granted.reveal = vec![secret("TOKEN")];
    let ran = granted.run(|effect| {
        assert!(matches!(effect, Effect::Reveal(name) if name.as_str() == "TOKEN"));
        Answer::Bytes("value".into())
    });
    assert_eq!(ran.text(), "value");
    granted.script = granted.script.replace("TOKEN", "OTHER");
    assert!(granted.fetched().error().message.contains("may not have"));
}

#[test]
fn a_secret_is_the_key_of_a_signature_outside() {
    let ran = body("reply(200, hex(hmac_sha256(env.secrets.TOKEN, \"data\")))").run(|effect| {
        assert!(
            matches!(effect, Effect::Hmac { secret, data } if secret.as_str() == "TOKEN" && data == "data")
        );
        Answer::Bytes(vec![0xab, 0x01].into())
    });
    assert_eq!(ran.text(), "ab01");
}
