//! Handlers in the shapes that authors know from elsewhere.

use bytes::Bytes;
use http::{Method, StatusCode};
use sluicegate_policy::{
    Answer, BodyHandle, BodySource, Effect, Entry, HeaderEdit, KvOperation, Object, ObjectsOperation,
    OutgoingRequest, ProgramKind, TemplatePart,
};

use super::{Came, Sent, answer, load, run, run_in};

const KIND: ProgramKind = ProgramKind::JavaScript;

const READ_ONLY: &str = r#"
export default {
  async outbound(request, env, ctx) {
    if (request.method === "GET") return fetch(request);
    console.log(`${ctx.containerId} tried ${request.method} ${request.url}`);
    return new Response("read only", { status: 405, statusText: "Method Not Allowed" });
  },
};
"#;

const CREDENTIALS: &str = r#"
export class Box {
  static outboundByHost = {
    "vcs.internal.test": async (request, env, ctx) => {
      const headers = new Headers(request.headers);
      headers.set("x-auth-token", env.VCS_TOKEN);
      return fetch(new Request(request, { headers }));
    },
    "api.internal.test": async (request, env, ctx) => {
      const forOne = new Request(request);
      forOne.headers.set("authorization", await env.KEYS.get(ctx.containerId));
      return fetch(forOne);
    },
  };
}
"#;

const HOSTS_OF_OURS: &str = r#"
export default {
  outboundByHost: {
    "my.kv": async (request, env) => {
      const value = await env.KV.get(new URL(request.url).pathname.slice(1));
      return value === null ? new Response(null, { status: 404 }) : new Response(value);
    },
    "objects.internal": async (request, env, ctx) => {
      const object = await env.OBJECTS.get(`${ctx.containerId}${new URL(request.url).pathname}`);
      return object ? new Response(object.body) : new Response(null, { status: 404 });
    },
  },
};
"#;

const NAMED: &str = r#"
export const outboundHandlers = {
  async allowHosts(request, env, { params }) {
    return params.allowedHostnames.includes(new URL(request.url).hostname) ? fetch(request) : new Response(null, { status: 403 });
  },
  async noHttp() { return new Response(null, { status: 403 }); },
};
"#;

fn by_host(pattern: &str) -> Entry {
    Entry::ByHost(pattern.into())
}

fn named(name: &str) -> Entry {
    Entry::Named(name.into())
}

/// The only fetch.
fn fetch_of(came: &Came) -> &OutgoingRequest {
    let mut fetches = came.effects.iter().filter_map(|effect| match effect {
        Effect::Fetch(request) => Some(&**request),
        _ => None,
    });
    let first = fetches.next().unwrap_or_else(|| panic!("{:?} after {:?}", came.step, came.effects));
    assert!(fetches.next().is_none(), "{:?}", came.effects);
    first
}

#[tokio::test]
async fn what_is_not_get_is_answered_and_logged() {
    let program = load(KIND, READ_ONLY.as_bytes()).unwrap();
    let came = run(&program, KIND, Sent::default()).await;
    let sent = fetch_of(&came);
    assert_eq!((sent.is_workloads, &sent.method), (true, &Method::GET));
    assert_eq!(sent.headers.get("cookie").unwrap(), "a=b");
    assert_eq!(came.status(), StatusCode::OK);
    assert!(came.log.is_empty());

    let came = run(&program, KIND, Sent::default().with(Method::POST)).await;
    assert_eq!((came.status(), came.text()), (StatusCode::METHOD_NOT_ALLOWED, "read only"));
    assert!(came.effects.is_empty(), "{:?}", came.effects);
    assert_eq!(&*came.log[0].message, "c0ffee tried POST https://api.example.test/v1/me?q=1");
}

#[tokio::test]
async fn a_secret_is_put_in_at_egress() {
    let program = load(KIND, CREDENTIALS.as_bytes()).unwrap();
    assert_eq!(program.exports().entries, [by_host("api.internal.test"), by_host("vcs.internal.test")]);
    let sent = Sent::to("https://vcs.internal.test/repo").with(Method::POST);
    let came = run(&program, KIND, sent.entry(by_host("vcs.internal.test"))).await;
    let sent = fetch_of(&came);
    assert!(sent.is_workloads);
    assert_eq!(sent.body, BodySource::Handle(BodyHandle::WORKLOAD));
    assert_eq!(sent.headers.get("user-agent").unwrap(), "test/1");
    assert!(sent.headers.get("x-auth-token").is_none());
    let [HeaderEdit::Set(name, template)] = &*sent.secrets.headers else {
        panic!("{:?}", sent.secrets);
    };
    assert_eq!(name, "x-auth-token");
    assert!(matches!(template.parts(), [TemplatePart::Secret(name)] if name.to_string() == "VCS_TOKEN"));
}

#[tokio::test]
async fn a_value_by_container_is_put_into_a_header() {
    let program = load(KIND, CREDENTIALS.as_bytes()).unwrap();
    let sent = Sent::to("https://api.internal.test/").entry(by_host("api.internal.test"));
    let came = run_in(&program, KIND, sent, |effect| match effect {
        Effect::Kv { binding, operation: KvOperation::Get(key) } => {
            assert_eq!((&**binding, &**key), ("KEYS", "c0ffee"));
            Answer::Bytes(Bytes::from_static(b"Bearer of-this-container"))
        }
        other => answer(other),
    });
    let came = came.await;
    assert_eq!(fetch_of(&came).headers.get("authorization").unwrap(), "Bearer of-this-container");
}

#[tokio::test]
async fn hosts_that_exist_only_here_are_answered_from_stores() {
    let program = load(KIND, HOSTS_OF_OURS.as_bytes()).unwrap();
    let world = |effect: &Effect| match effect {
        Effect::Kv { operation: KvOperation::Get(key), .. } if &**key == "key1" => {
            Answer::Bytes(Bytes::from_static(b"value1"))
        }
        Effect::Objects { operation: ObjectsOperation::Get(key), .. } if &**key == "c0ffee/a/b" => {
            Answer::Object(Object { body: Some(BodyHandle(9)), length: 3, content_type: None, etag: None })
        }
        other => answer(other),
    };
    let sent = |url, host| Sent::to(url).entry(by_host(host));
    let came = run_in(&program, KIND, sent("http://my.kv/key1", "my.kv"), world).await;
    assert_eq!((came.status(), came.text()), (StatusCode::OK, "value1"));
    let came = run_in(&program, KIND, sent("http://my.kv/none", "my.kv"), world).await;
    assert_eq!((came.status(), &came.response().body), (StatusCode::NOT_FOUND, &BodySource::Empty));
    let objects = "objects.internal";
    let came = run_in(&program, KIND, sent("http://objects.internal/a/b", objects), world).await;
    assert_eq!(came.response().body, BodySource::Handle(BodyHandle(9)), "unread");
    let came = run_in(&program, KIND, sent("http://objects.internal/none", objects), world).await;
    assert_eq!(came.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn named_handlers_get_their_parameters() {
    let program = load(KIND, NAMED.as_bytes()).unwrap();
    assert_eq!(program.exports().entries, [named("allowHosts"), named("noHttp")]);
    let params = serde_json::json!({ "allowedHostnames": ["git.example.test"] });
    let sent = |url| Sent { params: params.clone(), ..Sent::to(url) }.entry(named("allowHosts"));
    let came = run(&program, KIND, sent("https://git.example.test/")).await;
    assert_eq!(came.status(), StatusCode::OK);
    let came = run(&program, KIND, sent("https://other.test/")).await;
    assert_eq!(came.status(), StatusCode::FORBIDDEN);
    assert!(came.effects.is_empty());
    let came = run(&program, KIND, Sent::to("https://other.test/").entry(named("noHttp"))).await;
    assert_eq!(came.status(), StatusCode::FORBIDDEN);
}
