//! Examples whose handlers keep something: hosts that exist in the policy only.

use e2e::{Origin, Outcome, Reply, World, pseudo_random_chunks, pseudo_random_sha256};

use crate::support::{Shell, closed_gate, curl_line, gate, operator};

/// The example's workload in this container, all with one state folder.
fn run(world: &World, example: &str, container: &str, script: &str) -> Outcome {
    let script = format!("c() {{ curl -sS -w ' %{{http_code}}\\n' \"$@\"; }}\n{script}");
    closed_gate(world, example).flag("--container-id").flag(container).run(["sh", "-c", &script])
}

#[test]
fn kv_as_a_host() {
    let world = World::new("kv");
    let written = run(
        &world,
        "handler-kv-as-a-host",
        "blue",
        "c http://my.kv/greeting
         c -X PUT -d hello http://my.kv/greeting
         c -X PUT -d 'a b' http://my.kv/with%20space%2Fslash
         c http://my.kv/greeting
         c http://my.kv/with%20space%2Fslash
         c http://my.kv/
         c -X POST -d x http://my.kv/greeting",
    );
    written.assert_success().assert_stdout(
        "no such key\n 404\n 204\n 204\nhello 200\na b 200\n[\"greeting\",\"with space/slash\"] 200\n\
         GET, PUT or DELETE\n 405\n",
    );

    let other = run(
        &world,
        "handler-kv-as-a-host",
        "green",
        "c http://my.kv/greeting
         c http://my.kv/../blue/greeting
         c http://my.kv/..%2Fblue%2Fgreeting
         c http://my.kv/
         c -X DELETE http://my.kv/greeting",
    );
    other.assert_success();
    assert!(!other.stdout.contains("hello"), "{other:#?}");
    assert!(other.stdout.starts_with("no such key\n 404\nno such key\n 404\n"), "{other:#?}");
    assert!(other.stdout.ends_with("[] 200\n 204\n"), "{other:#?}");

    let later = run(
        &world,
        "handler-kv-as-a-host",
        "blue",
        "c http://my.kv/greeting; c -X DELETE http://my.kv/greeting; c http://my.kv/greeting",
    );
    later.assert_success().assert_stdout("hello 200\n 204\nno such key\n 404\n");
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

#[test]
fn objects_as_a_host() {
    const LENGTH: u64 = 5 * 1024 * 1024;
    let world = World::new("objects");
    world.home_file("large", pseudo_random_chunks(LENGTH).flatten().collect::<Vec<u8>>());
    let written = run(
        &world,
        "handler-objects-as-a-host",
        "blue",
        "c http://objects.internal/large
         c -T large http://objects.internal/large
         curl -sS http://objects.internal/large | sha256sum | cut -d ' ' -f 1
         c -X PUT -H 'content-type: text/plain' -d note http://objects.internal/notes/1
         c http://objects.internal/notes/1
         c -X PUT http://objects.internal/empty
         c http://objects.internal/empty
         c -X POST -d x http://objects.internal/notes/1",
    );
    written.assert_success().assert_stdout(&format!(
        "no such object\n 404\n 204\n{}\n 204\nnote 200\n 204\n 200\nGET, HEAD, PUT or DELETE\n 405\n",
        pseudo_random_sha256(LENGTH)
    ));

    let other = run(
        &world,
        "handler-objects-as-a-host",
        "green",
        "c http://objects.internal/notes/1
         c --path-as-is http://objects.internal/../blue/notes/1
         c http://objects.internal/..%2Fblue%2Fnotes%2F1
         c -X DELETE http://objects.internal/notes/1",
    );
    other.assert_success();
    assert!(!other.stdout.contains("note 200"), "{other:#?}");

    let later = run(
        &world,
        "handler-objects-as-a-host",
        "blue",
        "c http://objects.internal/notes/1
         c -X DELETE http://objects.internal/notes/1
         c http://objects.internal/notes/1
         curl -sSI http://objects.internal/large | tr -d '\\r' | sed -n 's/^content-length/Content-Length/Ip'",
    );
    later
        .assert_success()
        .assert_stdout(&format!("note 200\n 204\nno such object\n 404\nContent-Length: {LENGTH}\n"));
    assert_eq!(world.arrivals(), e2e::Arrivals::default());
}

#[test]
fn p28_a_key_is_given_and_taken_away_while_the_workload_runs() {
    let world = World::new("stored-key");
    let origin = Origin::start(&world, |_| Reply::text("me"));
    let gate = gate(&world, "handler-token-per-container", &["vcs.example.com"], origin.address())
        .flag("--container-id")
        .flag("blue")
        .env("API_TOKEN_blue", "unused");
    let mut shell = Shell::start(gate);
    let fetch = curl_line(&["https://vcs.example.com/"]);
    assert!(shell.ask(&fetch).contains("no key is stored for blue"));
    for key in ["Bearer first", "Bearer second"] {
        operator(&world, &["kv", "put", "keys", "blue", "-"]).stdin(key).run().assert_success();
        assert_eq!(shell.ask(&fetch), "me 200");
        assert_eq!(origin.requests().pop().unwrap().header("authorization"), [key]);
    }
    operator(&world, &["kv", "delete", "keys", "blue"]).run().assert_success();
    assert!(shell.ask(&fetch).contains("denied_by_handler"));
    let outcome = shell.end();
    outcome.assert_success();
    assert_eq!(origin.requests().len(), 2);
    let refused = outcome.lines("exchange").iter().filter(|line| line["verdict"] == "refused").count();
    assert_eq!(refused, 2, "{outcome:#?}");
}
