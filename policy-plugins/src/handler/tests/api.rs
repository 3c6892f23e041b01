//! The host API, function by function.

use super::*;

#[test]
fn u01_the_url_is_what_the_workload_asked_for() {
    let table = [
        (Scheme::Http, "google.com:80", "/hello/world", "http://google.com/hello/world"),
        (Scheme::Https, "example.com:443", "/", "https://example.com/"),
        (Scheme::Http, "15.0.0.2:80", "/", "http://15.0.0.2/"),
        (Scheme::Http, "[111::]:80", "/", "http://[111::]/"),
        (Scheme::Https, "example.com:8443", "/a?b=c", "https://example.com:8443/a?b=c"),
        (Scheme::Http, "example.com:443", "/", "http://example.com:443/"),
    ];
    for (scheme, authority, path, url) in table {
        let bench = body("reply(200, request.url)").input(|input| {
            input.scheme = scheme;
            input.authority = Authority::parse(authority, 1).unwrap();
            input.path_and_query = path.parse().unwrap();
        });
        assert_eq!(bench.fetched().text(), url);
        let again =
            body("let u = request.url; request.url = \"http://x.test\"; request.url = u; fetch(request)");
        let ran = again.input(|input| {
            input.scheme = scheme;
            input.authority = Authority::parse(authority, 1).unwrap();
            input.path_and_query = path.parse().unwrap();
        });
        let ran = ran.fetched();
        let request = ran.request(0);
        assert_eq!(
            (request.scheme, request.authority.to_string(), request.path_and_query.as_str()),
            (scheme, authority.to_owned(), path),
            "{url}"
        );
    }
}

#[test]
fn p27_the_handler_sees_its_params_and_its_context() {
    let ran = body("reply(200, ctx)").fetched();
    assert_eq!(ran.response().headers["content-type"], "application/json");
    let ran = body("ctx.handler_version = ctx.handler_version.len; reply(200, ctx)").fetched();
    let value: serde_json::Value = serde_json::from_str(&ran.text()).unwrap();
    let expected = json!({
        "container_id": "c0ffee", "instance_id": "i1", "labels": {"team": "blue"},
        "params": {"hosts": ["a.test", "b.test"], "count": 3}, "request_id": "85abe04d-1",
        "original_destination": "198.18.0.2:443", "sni": "api.example.test", "tls": "TLSv1_3",
        "protocol": "HTTP/1.1", "handler": "test", "handler_version": 12,
    });
    assert_eq!(value, expected);
    assert_eq!(
        value_of("[\"b.test\" in ctx.params.hosts, ctx.params.missing, ctx.labels.team]"),
        "[true,null,\"blue\"]"
    );
}

#[test]
fn parts_of_the_request_are_read() {
    let table = [
        ("request.method", "\"POST\""),
        ("request.scheme", "\"https\""),
        ("request.host", "\"api.example.test\""),
        ("request.port", "443"),
        ("request.path", "\"/v1/things\""),
        ("request.query", "\"page=2&q=a+b%21\""),
        ("request.query_param(\"q\")", "\"a b!\""),
        ("request.query_param(\"none\")", "null"),
        ("request.header(\"ACCEPT\")", "\"*/*\""),
        ("request.header(\"none\")", "null"),
        ("request.header(\"x-bytes\")", "\"caf\u{e9}\""),
        ("request.header_all(\"X-Many\")", "[\"one\",\"two\"]"),
        ("request.header_all(\"none\")", "[]"),
        ("request.header_names()", "[\"accept\",\"x-many\",\"x-bytes\",\"content-length\"]"),
        ("request.has_body", "true"),
        ("request.content_length", "5"),
        ("env.TEAM", "\"blue\""),
    ];
    for (expression, json) in table {
        assert_eq!(value_of(expression), json, "{expression}");
    }
}

#[test]
fn parts_of_the_request_are_written() {
    let table = [
        ("request.method = \"PUT\"", "PUT https://api.example.test:443/v1/things?page=2&q=a+b%21"),
        ("request.host = \"B.test\"", "POST https://b.test:443/v1/things?page=2&q=a+b%21"),
        ("request.host = \"b.test:8443\"", "POST https://b.test:8443/v1/things?page=2&q=a+b%21"),
        ("request.path = \"/x\"", "POST https://api.example.test:443/x?page=2&q=a+b%21"),
        ("request.query = \"a=1\"", "POST https://api.example.test:443/v1/things?a=1"),
        ("request.query = ()", "POST https://api.example.test:443/v1/things"),
        (
            "request.set_query(\"page\", \"a b\")",
            "POST https://api.example.test:443/v1/things?q=a+b%21&page=a%20b",
        ),
        ("request.remove_query(\"q\")", "POST https://api.example.test:443/v1/things?page=2"),
        (
            "request.remove_query(\"q\"); request.remove_query(\"page\")",
            "POST https://api.example.test:443/v1/things",
        ),
        ("request.url = \"HTTP://x.test?a\"", "POST http://x.test:80/?a"),
    ];
    for (statement, expected) in table {
        let ran = body(&format!("{statement}; fetch(request)")).fetched();
        let request = ran.request(0);
        let written = format!(
            "{} {}://{}{}",
            request.method, request.scheme, request.authority, request.path_and_query
        );
        assert_eq!(written, expected, "{statement}");
    }
}

#[test]
fn what_cannot_be_sent_cannot_be_written() {
    let table = [
        ("request.method = \"get\"", "upper case"),
        ("request.method = \"CONNECT\"", "CONNECT"),
        ("request.method = \"A B\"", "bad method"),
        ("request.url = \"/x\"", "begins with https://"),
        ("request.url = \"ftp://x.test/\"", "https or http"),
        ("request.url = \"https://u:p@x.test/\"", "user information"),
        ("request.url = \"https://x.test/#a\"", "without #"),
        ("request.url = \"https:///x\"", "bad host"),
        ("request.url = \"https://127.1/\"", "bad host"),
        ("request.url = \"https://x.test/a b\"", "bad path"),
        ("request.url = \"https://x.test/\\r\\nx\"", "bad path"),
        ("request.path = \"x\"", "bad path"),
        ("request.path = \"/x?y\"", "no query"),
        ("request.path = \"/ü\"", "printable ASCII"),
        ("request.host = \"a b\"", "bad host"),
        ("request.query = 1", "text"),
        ("request.set_header(\"Host\", \"x\")", "cannot be written"),
        ("request.set_header(\"content-length\", \"1\")", "cannot be written"),
        ("request.add_header(\"Transfer-Encoding\", \"x\")", "cannot be written"),
        ("request.remove_header(\"connection\")", "cannot be written"),
        ("request.set_header(\"proxy-authorization\", env.secrets.TOKEN)", "cannot be written"),
        ("request.set_header(\"a b\", \"x\")", "bad header name"),
        ("request.set_header(\"a\", \"x\\r\\ny\")", "cannot have this value"),
        ("request.set_header(\"a\", \"\u{20ac}\")", "cannot have this value"),
        ("request.set_header(\"a\", \"x\\ny\", env.secrets.TOKEN)", "beside a secret"),
        ("request.set_basic_auth(\"a:b\", \"c\")", "no colon"),
        ("request.set_basic_auth(\"a:b\", env.secrets.TOKEN)", "no colon"),
        ("fetch(\"x.test\")", "begins with https://"),
        ("reply(199)", "200 to 599"),
        ("reply(600)", "200 to 599"),
        ("reply(204, \"x\")", "has no body"),
        ("reply(304, #{})", "has no body"),
        ("let r = reply(200); r.status = 100", "200 to 599"),
        ("reply(200).set_header(\"content-length\", \"1\")", "cannot be written"),
        ("request.tap_body(65537)", "can be logged"),
        ("request.read_body(1048577)", "body_bytes"),
        ("request.read_body(-1)", "body_bytes"),
        ("log(\"notice\", \"x\")", "level"),
        ("log(\"info\", \"x\", #{ a: request })", "cannot become JSON"),
        ("parse_json(\"{\")", "not JSON (line 1"),
        ("text(base64_decode(\"/w==\"))", "not UTF-8"),
        ("base64_decode(\"%\")", "not base64"),
        ("decode_uri(\"%ff\")", "not UTF-8"),
        ("random_int(2, 1)", "greater"),
        ("random_bytes(1025)", "1024"),
        ("env.kv.get(\"\")", "not empty"),
        ("env.kv.put(\"k\", \"v\", 0)", "seconds"),
        ("env.kv.put(\"k\", request)", "not a"),
        ("env.objects.put(\"k\", \"v\", \"a\\nb\")", "media type"),
        ("env.kvv", "env has no kvv"),
        ("sha256(\"x\")[32]", "no byte 32"),
        ("for i in 0..300 { request.add_header(\"a\", \"x\"); }", "more than 256 headers"),
    ];
    for (statement, message) in table {
        let thrown = thrown_by(&format!("{statement};"));
        assert!(thrown.contains(message), "{statement}: {thrown}");
    }
}

#[test]
fn headers_keep_bytes_they_are_not_told_of() {
    let text = "request.set_header(\"x-copy\", request.header(\"x-bytes\")); request.add_header(\"X-Many\", \"three\"); \
                request.remove_header(\"ACCEPT\"); fetch(request)";
    let ran = body(text).fetched();
    let headers = &ran.request(0).headers;
    assert_eq!(headers["x-copy"].as_bytes(), b"caf\xe9");
    assert_eq!(headers["x-bytes"].as_bytes(), b"caf\xe9");
    assert_eq!(headers.get_all("x-many").iter().count(), 3);
    assert!(!headers.contains_key("accept"));
}

#[test]
fn a_request_of_its_own_has_nothing_of_the_workloads() {
    let ran =
        body("fetch(\"https://a.test\"); fetch(new_request(\"PUT\", \"http://b.test:81/x\"))").fetched();
    let written = |index: usize| {
        let request = ran.request(index);
        format!("{} {}{} {}", request.method, request.authority, request.path_and_query, request.is_workloads)
    };
    assert_eq!([written(0), written(1)], ["GET a.test:443/ false", "PUT b.test:81/x false"]);
    assert!(ran.request(0).headers.is_empty());
    assert_eq!(ran.request(0).body, BodySource::Empty);
}

#[test]
fn replies_say_what_they_are() {
    let table = [
        ("reply(200, \"x\")", Some("text/plain; charset=utf-8"), "x"),
        ("reply(200, sha256(\"x\").extract(0, 0))", Some("application/octet-stream"), ""),
        ("reply(200, #{ a: 1 })", Some("application/json"), "{\"a\":1}"),
        ("reply(200, [1])", Some("application/json"), "[1]"),
        ("let r = reply(404); r.status = 410; r.set_json(#{}); r", Some("application/json"), "{}"),
    ];
    for (text, media_type, content) in table {
        let response = body(text).fetched().response();
        assert_eq!(
            response.headers.get("content-type").map(|value| value.to_str().unwrap()),
            media_type,
            "{text}"
        );
        assert_eq!(response.body, BodySource::Bytes(content.into()), "{text}");
    }
    let response = body("reply(204)").fetched().response();
    assert_eq!((response.body, response.headers.len()), (BodySource::Empty, 0));
}

#[test]
fn a_response_is_changed_and_passed_on() {
    let text = r#"
        request.tap_body(10);
        let response = fetch(request);
        response.status = 203;
        response.set_header("x-seen", response.header("content-type"));
        response.tap_body(20);
        response
    "#;
    let ran = body(text).fetched();
    assert_eq!(ran.request(0).tap, Some(10));
    let response = ran.response();
    assert_eq!((response.status.as_u16(), response.tap), (203, Some(20)));
    assert_eq!(response.headers["x-seen"], "text/html");
    assert_eq!(response.body, BodySource::Handle(BodyHandle(1)));
}

#[test]
fn bodies_are_handed_from_one_message_to_another() {
    let ran = body("let r = fetch(request); let up = new_request(\"PUT\", \"https://b.test/\"); up.set_body(r.body); fetch(up)")
        .run(|_| response(200, Some(BodyHandle(7))));
    assert_eq!(ran.request(1).body, BodySource::Handle(BodyHandle(7)));
    let text = "let r = fetch(request); let v = r.read_json(100); v.seen = true; r.set_json(v); r";
    let ran = body(text).run(|effect| match effect {
        Effect::ReadBody { .. } => Answer::Bytes("{\"a\":[1,2.5,null]}".into()),
        _ => response(200, Some(BodyHandle(7))),
    });
    assert_eq!(ran.text(), "{\"a\":[1,2.5,null],\"seen\":true}");
}

#[test]
fn encodings_are_those_of_everybody() {
    let table = [
        ("hex(sha256(\"abc\"))", "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""),
        (
            "hex(hmac_sha256(\"key\", \"The quick brown fox jumps over the lazy dog\"))",
            "\"f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8\"",
        ),
        ("hex(hmac_sha256(\"key\".to_blob(), \"x\")) == hex(hmac_sha256(\"key\", \"x\".to_blob()))", "true"),
        ("base64_encode(\"hi\")", "\"aGk=\""),
        ("text(base64_decode(\"aGk\"))", "\"hi\""),
        ("encode_uri(\"a b/\u{fc}~\")", "\"a%20b%2F%C3%BC~\""),
        ("decode_uri(\"a%20b%2F+\")", "\"a b/+\""),
        (
            "parse_url(\"https://[::1]:8443/a?b\")",
            r#"{"host":"::1","path":"/a","port":8443,"query":"b","scheme":"https"}"#,
        ),
        ("parse_json(to_json(#{ a: [1, 2.5, \"x\", (), true] }))", r#"{"a":[1,2.5,"x",null,true]}"#),
        ("sha256(\"x\").len", "32"),
        ("sha256(\"x\")[0]", "45"),
        ("sha256(\"x\") == sha256(\"x\")", "true"),
        ("uuid().len", "36"),
        ("random_bytes(3).len", "3"),
        ("random_int(-3, -3)", "-3"),
        ("type_of(random_int(-9223372036854775807, 9223372036854775807))", "\"i64\""),
    ];
    for (expression, json) in table {
        assert_eq!(value_of(expression), json, "{expression}");
    }
}

#[test]
fn stored_values_are_asked_for_as_they_are_written() {
    let text = r#"
        let all = [env.kv.get("a"), env.kv.get_json("b"), env.kv.get("none"), env.kv.list("p"),
            env.kv.increment("n"), env.kv.increment("n", 5), env.kv.increment("n", 1, 60)];
        env.kv.put("k", "v");
        env.kv.put("k", #{ a: 1 }, 60);
        env.kv.delete("k");
        reply(200, all)
    "#;
    let mut count = 0;
    let ran = body(text).run(|effect| {
        let Effect::Kv { binding, operation } = effect else { panic!("{effect:?}") };
        assert_eq!(&**binding, "kv");
        match operation {
            KvOperation::Get(key) if &**key == "none" => Answer::Nothing,
            KvOperation::Get(_) => Answer::Bytes("[1]".into()),
            KvOperation::List(_) => Answer::Keys(vec!["p1".into(), "p2".into()]),
            KvOperation::Increment { by, .. } => {
                count += by;
                Answer::Number(count)
            }
            KvOperation::Put { .. } | KvOperation::Delete(_) => Answer::Done,
        }
    });
    let put = |value: &'static str, ttl: Option<u64>| KvOperation::Put {
        key: "k".into(),
        value: value.into(),
        ttl: ttl.map(Duration::from_secs),
    };
    let operation = |index: usize| match &ran.effects[index] {
        Effect::Kv { operation, .. } => operation.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!([operation(7), operation(8)], [put("v", None), put("{\"a\":1}", Some(60))]);
    assert_eq!(ran.text(), r#"["[1]",[1],null,["p1","p2"],1,6,7]"#);
}

#[test]
fn objects_stream_through() {
    let text = r#"
        env.objects.put("k", request.body, "text/csv");
        let object = env.objects.get("k");
        if env.objects.head("none") != () { return reply(500); }
        let response = reply(200, object.body);
        response.set_header("etag", object.etag);
        response.set_header("x-length", `${object.length} ${object.content_type ?? "?"}`);
        response
    "#;
    let ran = body(text).run(|effect| {
        let Effect::Objects { operation, .. } = effect else { panic!("{effect:?}") };
        match operation {
            ObjectsOperation::Put { body, content_type, .. } => {
                assert_eq!(*body, BodySource::Handle(BodyHandle::WORKLOAD));
                assert_eq!(content_type.as_deref(), Some("text/csv"));
                Answer::Done
            }
            ObjectsOperation::Get(_) => Answer::Object(Object {
                body: Some(BodyHandle(3)),
                length: 12,
                content_type: None,
                etag: Some("\"e\"".into()),
            }),
            _ => Answer::Nothing,
        }
    });
    let response = ran.response();
    assert_eq!(response.body, BodySource::Handle(BodyHandle(3)));
    assert_eq!(
        (response.headers["etag"].as_bytes(), response.headers["x-length"].as_bytes()),
        (&b"\"e\""[..], &b"12 ?"[..])
    );
    assert!(!response.headers.contains_key("content-type"));
}
