//! The handler that every language has: one path for each thing that a handler can do, or do wrong.

use std::hint::black_box;
use std::time::Duration;

use serde_json::json;
use sluicegate_handler::{
    Context, Env, Handler, Request, Response, Result, ask, deny, fetch, hex, log, random,
};

struct Conformance;

impl Handler for Conformance {
    fn outbound(request: Request, env: Env, context: Context) -> Result<Response> {
        match request.path().as_str() {
            "/allow" => fetch(request),
            "/deny" => deny("denied by the conformance handler"),
            "/answer" => Response::text(201, "answered\n")?.with_header("x-answer", "yes"),
            "/json" => describe(&request, &context),
            "/url" => Response::text(200, &request.url()),
            "/modify" => modify(request),
            "/callout" => call_out(request),
            "/caught" => match down() {
                Ok(_) => Response::text(500, "down.test answered"),
                Err(_) => Response::text(200, "caught"),
            },
            "/uncaught" => down(),
            "/kv" => keep(&request, env),
            "/objects" => store(request, env),
            "/body" => upper_case(request),
            "/peek" => peek(request),
            "/tap" => tap(request),
            "/ask" => {
                ask("really?", Duration::from_secs(10))?;
                fetch(request)
            }
            "/random" => Response::text(200, &random::uuid()),
            "/log" => {
                log::with(log::Level::Info, "hello", &json!({ "n": 1 }))?;
                Response::empty(204)
            }
            path => secret(path, request, env),
        }
    }
}

sluicegate_handler::export!(Conformance);

fn describe(request: &Request, context: &Context) -> Result<Response> {
    let params: serde_json::Value = context.params()?;
    let described = json!({
        "method": request.method(),
        "url": request.url(),
        "container": context.container_id(),
        "instance": context.instance_id(),
        "greeting": params["greeting"],
        "team": context.label("team"),
    });
    Response::json(200, &described)
}

fn modify(mut request: Request) -> Result<Response> {
    request.set_header("x-added", "one")?;
    request.remove_header("x-remove-me")?;
    request.set_path("/modified")?;
    request.set_query(Some("by=handler"))?;
    let mut response = fetch(request)?;
    response.set_header("x-response", "changed")?;
    response.set_status(202)?;
    Ok(response)
}

fn call_out(request: Request) -> Result<Response> {
    let mut answer = fetch(Request::get("https://callout.test/check")?)?;
    if answer.read_text(1024)? == "yes" { fetch(request) } else { Response::text(403, "no") }
}

/// Nobody is there.
fn down() -> Result<Response> {
    fetch(Request::get("https://down.test/")?)
}

fn keep(request: &Request, env: Env) -> Result<Response> {
    let kv = env.kv("kv");
    let count = kv.increment("count", 1)?;
    kv.put("last", request.path())?;
    let last = kv.get_text("last")?;
    Response::json(200, &json!({ "count": count, "last": last, "keys": kv.keys("")? }))
}

fn store(mut request: Request, env: Env) -> Result<Response> {
    let objects = env.objects("objects");
    let content = request.take_body().unwrap_or_else(|| "".into());
    objects.put("greeting", content, Some("text/plain"))?;
    match objects.get("greeting")? {
        Some(object) => Response::new(200, object.body),
        None => Response::empty(500),
    }
}

fn upper_case(mut request: Request) -> Result<Response> {
    Response::text(200, &request.read_text(1024)?.to_uppercase())
}

fn peek(mut request: Request) -> Result<Response> {
    if request.peek_body(4)? == b"deny" { deny("peeked") } else { fetch(request) }
}

fn tap(mut request: Request) -> Result<Response> {
    request.tap_body(8);
    fetch(request)
}

/// What is done with the secret `TOKEN`.
fn secret(path: &str, mut request: Request, env: Env) -> Result<Response> {
    match path {
        "/token" => request.set_bearer(env.secret("TOKEN")?)?,
        "/basic" => request.set_basic_auth("robot", env.secret("TOKEN")?)?,
        "/query-secret" => request.set_query_param("key", env.secret("TOKEN")?)?,
        "/body-secret" => request.set_json(&json!({ "token": env.secret("TOKEN")? }))?,
        "/wrong-host" => {
            request = Request::get("https://other.test/")?;
            request.set_bearer(env.secret("TOKEN")?)?;
        }
        "/show-secret" => return Response::text(200, env.secret("TOKEN")?.as_ref()),
        "/hmac" => return Response::text(200, &hex(env.secret("TOKEN")?.hmac_sha256("data")?)),
        "/reveal" => return reveal(env),
        path => return misbehave(path, env),
    }
    fetch(request)
}

#[cfg(feature = "reveal")]
fn reveal(env: Env) -> Result<Response> {
    Response::text(200, &hex(sluicegate_handler::sha256(env.secret("TOKEN")?.reveal()?)))
}

#[cfg(not(feature = "reveal"))]
fn reveal(_: Env) -> Result<Response> {
    Err(sluicegate_handler::Error::Failed("this component does not import reveal".to_owned()))
}

/// What no handler should do.
fn misbehave(path: &str, env: Env) -> Result<Response> {
    match path {
        "/throw" => Err(sluicegate_handler::Error::Failed("broken".to_owned())),
        "/panic" => panic!("broken"),
        "/trap" => std::process::abort(),
        "/loop" => loop {
            black_box(path);
        },
        "/grow" => {
            let mut all = Vec::new();
            loop {
                all.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "/flood" => loop {
            env.kv("kv").get("flood")?;
        },
        "/output" => Response::new(200, vec![b'x'; 100_000_000]),
        "/logs" => loop {
            log::info("again");
        },
        "/recurse" => Response::text(200, &deeper(1).to_string()),
        _ => Response::text(404, "no such scenario\n"),
    }
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    black_box(deeper(black_box(depth + 1))) + 1
}
