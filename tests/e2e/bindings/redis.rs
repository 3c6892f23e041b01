//! Values in a Redis server.

use std::net::SocketAddr;

use e2e::{
    Arrivals, Gate, ORIGIN_IPV4, Outcome, Running, World, assert_token_absent, new_token, with_token_scan,
};

const PORT: u16 = 6379;
const TLS_PORT: u16 = 6380;

/// A server in the origin namespace that lets nobody in without its password.
struct Redis<'world> {
    world: &'world World,
    password: String,
    _running: Running<'world>,
}

impl<'world> Redis<'world> {
    fn start(world: &'world World) -> Self {
        let password = new_token();
        let running = Self::spawn(world, &password, &[]);
        Self { world, password, _running: running }
    }

    fn start_with_tls(world: &'world World, name: &str) -> Self {
        let password = new_token();
        let (certificate, key) = world.certificate_files(&[name]);
        let ca = world.origin_ca_file();
        let flags = [
            ("--tls-port", TLS_PORT.to_string()),
            ("--tls-cert-file", certificate.display().to_string()),
            ("--tls-key-file", key.display().to_string()),
            ("--tls-ca-cert-file", ca.display().to_string()),
            ("--tls-auth-clients", "no".to_owned()),
        ];
        let flags: Vec<&str> = flags.iter().flat_map(|(flag, value)| [*flag, value]).collect();
        let running = Self::spawn(world, &password, &flags);
        world.wait_for_listener(SocketAddr::new(ORIGIN_IPV4.into(), TLS_PORT));
        Self { world, password, _running: running }
    }

    fn spawn(world: &'world World, password: &str, flags: &[&str]) -> Running<'world> {
        let (address, port) = (ORIGIN_IPV4.to_string(), PORT.to_string());
        let command =
            ["redis-server", "--save", "", "--bind", &address, "--port", &port, "--requirepass", password];
        let running = world.root_job(world.origin_namespace(), [&command[..], flags].concat()).spawn();
        world.wait_for_listener(SocketAddr::new(ORIGIN_IPV4.into(), PORT));
        running
    }

    /// What the server says to a client that stands beside it.
    fn ask(&self, words: &[&str]) -> String {
        let address = ORIGIN_IPV4.to_string();
        let command = [&["redis-cli", "-h", &address, "-n", "3"], words].concat();
        let job = self.world.root_job(self.world.origin_namespace(), command);
        job.env("REDISCLI_AUTH", &self.password).run().assert_success().stdout.trim_end().to_owned()
    }
}

/// A gate whose handler serves `http://my.kv` out of this store.
fn gate<'world>(world: &'world World, binding: &str, hosts: &str, password: &str) -> Gate<'world> {
    world.file("handlers/kv.rhai", include_str!("handlers/kv.rhai"));
    let upstream = world.upstream(&[
        ("redis.test:6380", SocketAddr::new(ORIGIN_IPV4.into(), TLS_PORT)),
        ("other.test:6380", SocketAddr::new(ORIGIN_IPV4.into(), TLS_PORT)),
    ]);
    let policy = format!(
        "version = 1
         [outbound_by_host]
         \"http://my.kv\" = \"handlers/kv.rhai\"
         [handler_limits]
         body_bytes = 2097152
         string_bytes = 2097152
         cpu_ms = 100
         [bindings.kv]
         {binding}
         password = \"REDIS_PASSWORD\"
         [secrets.REDIS_PASSWORD]
         source = \"env://REDIS_PASSWORD\"
         hosts = [\"{hosts}\"]
         plaintext = true
         {upstream}"
    );
    world.gate(&policy).env("REDIS_PASSWORD", password).flag("--container-id").flag("blue")
}

fn run(gate: Gate<'_>, script: &str) -> Outcome {
    let script = format!("c() {{ curl -sS -w ' %{{http_code}}\\n' \"$@\"; }}\n{script}");
    gate.run(["sh", "-c", &script])
}

const HERE: &str = "url = \"redis://10.77.0.2:6379/3\"";

#[test]
fn values_are_kept_in_redis_as_any_client_would() {
    let world = World::new("redis-values");
    let redis = Redis::start(&world);
    redis.ask(&["SET", "blue/given", "by another"]);
    redis.ask(&["SET", "green/secret", "not ours"]);
    redis.ask(&["RPUSH", "blue/list", "1"]);
    let outcome = run(
        gate(&world, HERE, "10.77.0.2:6379", &redis.password),
        "c http://my.kv/given
         c http://my.kv/none
         c -X PUT -d hello http://my.kv/a
         c http://my.kv/a
         c -X PUT -d '' http://my.kv/empty
         c http://my.kv/empty
         c -X PUT -d 1 'http://my.kv/odd%0D%0A*1%20%2A'
         c 'http://my.kv/odd%0D%0A*1%20%2A'
         c -X LIST http://my.kv/
         c -X LIST http://my.kv/odd
         c -X LIST 'http://my.kv/*'
         c -X DELETE http://my.kv/a
         c http://my.kv/a
         c http://my.kv/list
         c -X LIST http://my.kv/..%2Fgreen
         c http://my.kv/..%2Fgreen%2Fsecret",
    );
    outcome.assert_success().assert_stdout(
        "by another 200\nnothing 404\nstored 200\nhello 200\nstored 200\n 200\nstored 200\n1 200\n\
         [\"a\",\"empty\",\"given\",\"list\",\"odd\\r\\n*1 *\"] 200\n[\"odd\\r\\n*1 *\"] 200\n[] 200\n\
         deleted 200\nnothing 404\nbinding kv: the key holds something that is not a value 500\n\
         [] 200\nnothing 404\n",
    );
    assert_eq!(redis.ask(&["GET", "blue/odd\r\n*1 *"]), "1");
    assert_eq!(redis.ask(&["GET", "green/secret"]), "not ours");
}

#[test]
fn numbers_and_times_are_redis_own() {
    let world = World::new("redis-numbers");
    let redis = Redis::start(&world);
    let outcome = run(
        gate(&world, HERE, "10.77.0.2:6379", &redis.password),
        "c -X ADD http://my.kv/n
         c -X ADD http://my.kv/n
         c -X ADD -H 'x-ttl: 300' http://my.kv/limited
         c -X ADD -H 'x-ttl: 900' http://my.kv/limited
         c -X PUT -H 'x-ttl: 300' -d x http://my.kv/short
         c -X ADD http://my.kv/short
         c -X PUT -d 9223372036854775806 http://my.kv/large
         c -X ADD http://my.kv/large
         c -X ADD -H 'x-ttl: 900' http://my.kv/large
         c http://my.kv/large
         seq 50 | xargs -P 10 -I {} curl -sS -o /dev/null -X ADD -H 'x-ttl: 900' http://my.kv/many
         c http://my.kv/many",
    );
    outcome.assert_success().assert_stdout(
        "2 200\n4 200\n2 200\n4 200\nstored 200\n\
         binding kv: the value is not a whole number of 64 bits in decimal 500\nstored 200\n\
         binding kv: the number would not fit into 64 bits 500\n\
         binding kv: the number would not fit into 64 bits 500\n9223372036854775806 200\n100 200\n",
    );
    assert_eq!(redis.ask(&["TTL", "blue/n"]), "-1");
    for key in ["blue/limited", "blue/short"] {
        let ttl: u32 = redis.ask(&["TTL", key]).parse().unwrap();
        assert!((200..=300).contains(&ttl), "{key}: {ttl}");
    }
}

#[test]
fn what_redis_refuses_is_said_and_its_password_is_not() {
    let world = World::new("redis-refused");
    let redis = Redis::start(&world);
    let wrong = new_token();
    let command = with_token_scan(
        &world,
        &[&wrong, &redis.password],
        ["sh", "-c", "curl -sS -w ' %{http_code}\n' -X PUT -d x http://my.kv/a"],
    );
    let outcome = gate(&world, HERE, "10.77.0.2:6379", &wrong).run(command);
    outcome.assert_success();
    assert!(outcome.stdout.contains("binding kv: the store refuses access 500"), "{outcome:#?}");
    assert_token_absent(&world, &outcome, &[&wrong, &redis.password]);

    let large = run(
        gate(&world, HERE, "10.77.0.2:6379", &redis.password),
        "head -c 1048577 /dev/zero | c --data-binary @- -X PUT http://my.kv/large
         head -c 1048576 /dev/zero | c --data-binary @- -X PUT http://my.kv/large
         curl -sS http://my.kv/large | wc -c",
    );
    large
        .assert_success()
        .assert_stdout("binding kv: a value has at most 1048576 bytes 500\nstored 200\n1048576\n");
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let world = World::new("redis-restart");
    let password = new_token();
    let first = Redis::spawn(&world, &password, &[]);
    let gate = gate(&world, HERE, "10.77.0.2:6379", &password).attach();
    let put =
        |key: &str| gate.run(["curl", "-sS", "-X", "PUT", "-d", "x", &format!("http://my.kv/{key}")]).stdout;
    assert_eq!(put("a"), "stored");
    drop(first);
    assert_eq!(put("b"), "binding kv: the store cannot be reached");
    let _second = Redis::spawn(&world, &password, &[]);
    assert_eq!(put("c"), "stored");
}

#[test]
fn tls_to_redis_is_verified() {
    let world = World::new("redis-tls");
    let redis = Redis::start_with_tls(&world, "redis.test");
    let url = |name: &str| format!("url = \"rediss://{name}:6380/3\"\nprefix = \"\"");
    let put = "c -X PUT -d x http://my.kv/a";
    let verified = run(gate(&world, &url("redis.test"), "redis.test:6380", &redis.password), put);
    verified.assert_success().assert_stdout("stored 200\n");
    assert_eq!(redis.ask(&["GET", "a"]), "x");
    // The certificate is another's.
    let other = run(gate(&world, &url("other.test"), "other.test:6380", &redis.password), put);
    other.assert_success().assert_stdout("binding kv: the store cannot be reached 500\n");
}

#[test]
fn a_store_that_no_request_uses_is_not_dialled() {
    let world = World::new("redis-idle");
    let gate = gate(&world, HERE, "10.77.0.2:6379", "unused");
    let outcome = run(gate, "c -X POST http://my.kv/a -o /dev/null");
    outcome.assert_success().assert_stdout(" 403\n");
    assert_eq!(world.arrivals(), Arrivals::default());
}
