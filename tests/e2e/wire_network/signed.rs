//! Requests that the workload signed itself reach an object store with their signatures valid.

use e2e::{Moto, Nginx, World};
use serde_json::{Value, json};

/// moto, alone for port 80 and behind nginx for port 443.
struct Store<'world> {
    world: &'world World,
    moto: Moto<'world>,
    nginx: Nginx<'world>,
}

impl<'world> Store<'world> {
    fn start(world: &'world World) -> Self {
        let moto = Moto::start(world);
        let front = format!(
            "location / {{ proxy_pass http://{}; proxy_http_version 1.1; \
             proxy_set_header Host $http_host; proxy_set_header Connection \"\"; }}",
            Moto::address()
        );
        let nginx = Nginx::start(world, "s3.test", 8443, &front);
        Self { world, moto, nginx }
    }

    /// What [`CLIENT`] printed behind a gate with these rules, that signs with this key.
    fn client(&self, rules: &str, key: &str, endpoint: &str) -> Value {
        let found = [("s3.test:80", Moto::address()), ("s3.test:443", self.nginx.address())];
        let policy =
            format!("version = 1\nallowed_hosts = [\"s3.test\"]\n{rules}\n{}", self.world.upstream(&found));
        let python = self.world.test_dependency("py/bin/python3");
        let outcome = self.world.gate(&policy).run([&python, "-c", CLIENT, endpoint, &self.moto.id, key]);
        outcome.assert_success();
        let exchanges = outcome.lines("exchange");
        assert!(!exchanges.is_empty(), "{outcome:?}");
        for line in exchanges {
            assert_eq!(
                (&line["verdict"], &line["client_version"]),
                (&json!("allowed"), &json!("HTTP/1.1")),
                "{line}"
            );
        }
        outcome.json()
    }
}

/// Puts objects of odd names and reads them back, signed by boto3, in every way in which it signs a body.
const CLIENT: &str = r#"
import boto3, hashlib, io, json, sys
from botocore.config import Config
from botocore.exceptions import ClientError
endpoint, id, key = sys.argv[1:]
config = Config(request_checksum_calculation="when_required", s3={"payload_signing_enabled": True})
def client(**more):
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=id, aws_secret_access_key=key, **more)
s3, streaming = client(config=config), client()
hashes = set()
def note(request, **_):
    hash = request.headers["X-Amz-Content-SHA256"]
    hash = hash.decode() if isinstance(hash, bytes) else hash
    hashes.add("of the body" if len(hash) == 64 else hash)
for each in (s3, streaming): each.meta.events.register("before-send.s3.PutObject", note)
ends = {}
def attempt(name, act):
    try: ends[name] = act()
    except ClientError as error: ends[name] = error.response["Error"]["Code"]
def there_and_back(s3, name, body, **more):
    s3.put_object(Bucket="bucket", Key=name, Metadata={"colour": "dark  blue"}, **body, **more)
    got = s3.get_object(Bucket="bucket", Key=name)
    return [hashlib.sha256(got["Body"].read()).hexdigest(), got["Metadata"]]
for name in ("plain.txt", "a b+c=&~(d)*'!$,;:@.txt", "\u00e4\u20ac%2F%zz", "with//two", "a/./b", "a/../b", "end/"):
    attempt(name, lambda: there_and_back(s3, name, {"Body": b"content"}))
large = bytes(range(256)) * 2000
attempt("large", lambda: there_and_back(streaming, "large", {"Body": io.BytesIO(large)}))
attempt("list", lambda: [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket", Prefix="a b", StartAfter="a a?&=%").get("Contents", [])])
attempt("range", lambda: s3.get_object(Bucket="bucket", Key="large", Range="bytes=10-13")["Body"].read().hex())
attempt("head", lambda: s3.head_object(Bucket="bucket", Key="large")["ContentLength"])
attempt("delete", lambda: s3.delete_object(Bucket="bucket", Key="large")["ResponseMetadata"]["HTTPStatusCode"])
print(json.dumps({"hashes": sorted(hashes), "large": hashlib.sha256(large).hexdigest(), "ends": ends}))
"#;

const CONTENT_SHA256: &str = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";

#[test]
fn w10_signatures_of_the_workload_stay_valid() {
    let world = World::new("w10");
    let store = Store::start(&world);
    // What was not signed may be changed without breaking a signature.
    let unsigned = "[[rules]]\nhost = \"s3.test\"\nset_headers = { x-trace = \"1\" }";
    for (rules, endpoint, trailer) in
        [("", "http://s3.test", false), ("", "https://s3.test", true), (unsigned, "https://s3.test", true)]
    {
        let told = store.client(rules, &store.moto.key, endpoint);
        let metadata = json!({ "colour": "dark  blue" });
        let ends = told["ends"].as_object().unwrap();
        for (name, end) in ends {
            let expected = match name.as_str() {
                "large" => json!([told["large"], metadata]),
                "list" => json!(["a b+c=&~(d)*'!$,;:@.txt"]),
                "range" => json!("0a0b0c0d"),
                "head" => json!(512_000),
                "delete" => json!(204),
                _ => json!([CONTENT_SHA256, metadata]),
            };
            assert_eq!(*end, expected, "{endpoint} {name}: {told:#}");
        }
        assert_eq!(ends.len(), 12);
        let hashes = told["hashes"].as_array().unwrap();
        assert!(hashes.contains(&json!("of the body")), "{told:#}");
        assert_eq!(hashes.contains(&json!("STREAMING-UNSIGNED-PAYLOAD-TRAILER")), trailer, "{told:#}");
    }
}

#[test]
fn w10_a_signature_that_does_not_fit_is_the_stores_to_refuse() {
    let world = World::new("w10-changed");
    let store = Store::start(&world);
    let changed = "[[rules]]\nhost = \"s3.test\"\nset_headers = { x-amz-meta-colour = \"red\" }";
    for (rules, key, what) in [("", "wrong", "the wrong key"), (changed, &store.moto.key, "a changed header")]
    {
        for endpoint in ["http://s3.test", "https://s3.test"] {
            let told = store.client(rules, key, endpoint);
            for name in ["plain.txt", "with//two", "large"] {
                assert_eq!(told["ends"][name], "SignatureDoesNotMatch", "{what} {endpoint} {name}: {told:#}");
            }
        }
    }
}
