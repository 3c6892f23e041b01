//! A real S3 service: moto, which checks signatures and rights.

use std::net::SocketAddr;

use crate::job::Running;
use crate::world::{ORIGIN_IPV4, World};

/// Four calls: a user, its rights, its key, a bucket.
const SET_UP: &str = r#"
import boto3, json, sys
def client(name):
    return boto3.client(name, endpoint_url=sys.argv[1], region_name="us-east-1",
                        aws_access_key_id="none", aws_secret_access_key="none")
iam = client("iam")
iam.create_user(UserName="user")
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=json.dumps(everything))
key = iam.create_access_key(UserName="user")["AccessKey"]
client("s3").create_bucket(Bucket="bucket")
print(key["AccessKeyId"], key["SecretAccessKey"])
"#;

/// The service, with an empty bucket `bucket` and one user who may do everything.
#[derive(Debug)]
pub struct Moto<'world> {
    /// The user's key: its id.
    pub id: String,
    /// The key itself.
    pub key: String,
    _running: Running<'world>,
}

impl<'world> Moto<'world> {
    /// Its port, at [`ORIGIN_IPV4`]; it speaks HTTP without TLS.
    pub const PORT: u16 = 9000;

    /// Starts it.
    pub fn start(world: &'world World) -> Self {
        let (host, port) = (ORIGIN_IPV4.to_string(), Self::PORT.to_string());
        let server = world.test_dependency("py/bin/moto_server");
        let running = world
            .root_job(world.origin_namespace(), [server.as_str(), "-H", &host, "-p", &port])
            // What `SET_UP` does is let through; from then on everything must be signed.
            .env("INITIAL_NO_AUTH_ACTION_COUNT", "4")
            // `s3.test` is not the bucket `s3`.
            .env("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true")
            .spawn();
        world.wait_for_listener(Self::address());
        let python = world.test_dependency("py/bin/python3");
        let endpoint = format!("http://{host}:{port}");
        let made = world.root_job(world.origin_namespace(), [&python, "-c", SET_UP, &endpoint]).run();
        let (id, key) = made.assert_success().stdout.trim().split_once(' ').expect("an id and a key");
        Self { id: id.to_owned(), key: key.to_owned(), _running: running }
    }

    /// Where it listens.
    #[must_use]
    pub fn address() -> SocketAddr {
        SocketAddr::new(ORIGIN_IPV4.into(), Self::PORT)
    }
}
