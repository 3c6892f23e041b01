//! Four files as people write them for another platform's outbound handlers, unchanged.

use e2e::{Site, World, new_token};
use serde_json::json;

use crate::support::{
    assert_answer, assert_line, assert_told, attach, document, of_kind, operator, script, settled, start,
};

/// The files as they are.
const READ_ONLY: &str = include_str!("reference/1.js");
const CREDENTIALS: &str = include_str!("reference/2.js");
const HOSTS: &str = include_str!("reference/3.js");
const NAMED: &str = include_str!("reference/4.js");

#[test]
fn what_is_not_get_is_refused_with_an_answer_of_its_own() {
    let world = World::new("reference-1");
    let site = Site::start(&world);
    script(&world, "reference", READ_ONLY);
    let policy = document(&world, &site, "outbound = \"handlers/reference.js\"", &["api.test"]);
    let gate = start(&world, world.gate(&policy).flag("--container-id").flag("c-1"));
    assert_answer(&gate, &["https://api.test/x"], "origin: api.test");
    let body = assert_told(&gate, &["-d", "x", "https://api.test/x?y"], "405 ");
    assert_eq!(body, "read only");
    let log = settled(&gate, 2);
    assert_line(
        of_kind(&log, "handler")[0],
        &json!({"level": "info", "message": "c-1 tried POST https://api.test/x?y"}),
    );
    assert_eq!(site.requests().len(), 1);
}

#[test]
fn each_host_and_each_container_has_its_credential() {
    let world = World::new("reference-2");
    let site = Site::start(&world);
    script(&world, "reference", CREDENTIALS);
    let token = new_token();
    let text = "outbound = \"handlers/reference.js\"\n[secrets.VCS_TOKEN]\nsource = \"env://VCS_TOKEN\"\n\
                hosts = [\"vcs.internal.test\"]\n[bindings.KEYS]\nkind = \"kv\"";
    let policy = document(&world, &site, text, &["vcs.internal.test", "api.internal.test", "other.test"]);
    let gate = world.gate(&policy).env("VCS_TOKEN", &token).flag("--container-id").flag("blue");
    let gate = start(&world, gate);
    operator(&gate, &["kv", "put", "KEYS", "blue", "key-of-blue"]);
    for arguments in [&["-H", "x-mine: 1"][..], &["-d", "a body"]] {
        let arguments = [arguments, &["https://vcs.internal.test/repo"]].concat();
        assert_answer(&gate, &arguments, "origin: vcs.internal.test");
        let request = site.tls.requests().pop().unwrap();
        assert_eq!(request.header("x-auth-token"), [token.as_str()]);
        assert_eq!(request.body.is_empty(), request.method == "GET");
    }
    assert_answer(&gate, &["https://api.internal.test/"], "origin: api.internal.test");
    let request = site.tls.requests().pop().unwrap();
    assert_eq!(request.header("authorization"), ["key-of-blue"]);
    assert_eq!(request.header("x-auth-token"), [""; 0]);
    // It has no catch-all: other hosts are as if there were no handler.
    assert_told(&gate, &["https://other.test/"], "403 not_named");
    assert!(gate.log().iter().all(|line| !line.to_string().contains(&token)));
}

#[test]
fn hosts_that_exist_only_here() {
    let world = World::new("reference-3");
    let site = Site::start(&world);
    script(&world, "reference", HOSTS);
    let text = "outbound = \"handlers/reference.js\"\n[bindings.KV]\nkind = \"kv\"\n[bindings.OBJECTS]\nkind = \"objects\"";
    // What writes objects, so that there is something to read.
    script(
        &world,
        "write",
        "export default { async outbound(request, env, ctx) {\n\
         await env.OBJECTS.put(`${ctx.containerId}/file`, request.body);\n  return new Response(null, { status: 201 });\n} };",
    );
    let text = format!("outbound_by_host.\"write.test\" = \"handlers/write.js\"\n{text}");
    let gate = attach(&world, &document(&world, &site, &text, &[]));
    operator(&gate, &["kv", "put", "KV", "key", "value of the key"]);
    assert_answer(&gate, &["http://my.kv/key"], "value of the key");
    assert_answer(&gate, &["https://my.kv/key"], "value of the key");
    assert_eq!(assert_told(&gate, &["http://my.kv/none"], "404 "), "");
    assert_told(&gate, &["http://objects.internal/file"], "404 ");
    assert_told(&gate, &["-d", "content of the file", "http://write.test/"], "201 ");
    assert_answer(&gate, &["http://objects.internal/file"], "content of the file");
    assert_told(&gate, &["http://objects.internal/other"], "404 ");
    site.assert_untouched();
}

#[test]
fn open_for_the_set_up_and_closed_afterwards() {
    let world = World::new("reference-4");
    let site = Site::start(&world);
    script(&world, "reference", NAMED);
    let names = ["git.example.test", "packages.example.test", "other.test"];
    let gate = attach(&world, &document(&world, &site, "outbound = \"handlers/reference.js\"", &names));
    // Named handlers do nothing until they are set.
    for name in names {
        assert_told(&gate, &[&format!("https://{name}/")], "403 not_named");
    }
    let params = json!({"allowedHostnames": &names[..2]}).to_string();
    operator(&gate, &["handler", "set", "allowHosts", "--params", &params]);
    for name in &names[..2] {
        assert_answer(&gate, &[&format!("https://{name}/")], &format!("origin: {name}"));
    }
    assert_told(&gate, &["https://other.test/"], "403 ");
    operator(&gate, &["handler", "set", "noHttp"]);
    for name in names {
        assert_told(&gate, &[&format!("https://{name}/")], "403 ");
    }
    operator(&gate, &["handler", "clear"]);
    assert_told(&gate, &["https://git.example.test/"], "403 not_named");
    assert_eq!(site.requests().len(), 2);
    let log = settled(&gate, 10);
    let handlers: Vec<_> =
        of_kind(&log, "exchange").iter().filter_map(|line| line["handler"].as_str()).collect();
    assert_eq!(handlers, [&["allowHosts"; 3][..], &["noHttp"; 3]].concat());
}
