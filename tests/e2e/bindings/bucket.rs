//! Objects in an S3 service.

use std::time::Duration;

use e2e::{
    Gate, Moto, ORIGIN_IPV4, Outcome, World, assert_token_absent, pseudo_random_chunks, pseudo_random_sha256,
    wait_until, with_token_scan,
};
use nix::sys::signal::Signal;

const PORT: u16 = Moto::PORT;

struct Service<'world> {
    world: &'world World,
    moto: Moto<'world>,
}

impl<'world> Service<'world> {
    fn start(world: &'world World) -> Self {
        Self { world, moto: Moto::start(world) }
    }

    /// Runs Python beside the service, with `s3` made.
    fn ask(&self, code: &str) -> String {
        let python = self.world.test_dependency("py/bin/python3");
        let code = format!(
            "import boto3\ns3 = boto3.client('s3', endpoint_url='http://{ORIGIN_IPV4}:{PORT}', region_name='us-east-1',\
             aws_access_key_id='{}', aws_secret_access_key='{}')\n{code}",
            self.moto.id, self.moto.key
        );
        let job = self.world.root_job(self.world.origin_namespace(), [python.as_str(), "-c", &code]);
        job.run().assert_success().stdout.trim_end().to_owned()
    }

    fn gate(&self, key: &str) -> Gate<'world> {
        self.world.file("handlers/objects.rhai", include_str!("handlers/objects.rhai"));
        let policy = format!(
            "version = 1
             [outbound_by_host]
             \"http://objects.internal\" = \"handlers/objects.rhai\"
             [bindings.objects]
             url = \"s3://bucket/folder\"
             endpoint = \"http://{ORIGIN_IPV4}:{PORT}\"
             access_key_id = \"S3_ID\"
             secret_access_key = \"S3_KEY\"
             [secrets.S3_ID]
             source = \"env://S3_ID\"
             hosts = [\"{ORIGIN_IPV4}:{PORT}\"]
             plaintext = true
             [secrets.S3_KEY]
             source = \"env://S3_KEY\"
             hosts = [\"{ORIGIN_IPV4}:{PORT}\"]
             plaintext = true
             "
        );
        let gate = self.world.gate(&policy).env("S3_ID", &self.moto.id).env("S3_KEY", key);
        gate.flag("--container-id").flag("blue")
    }

    fn run(&self, script: &str) -> Outcome {
        let script = format!("c() {{ curl -sS -w ' %{{http_code}}\\n' \"$@\"; }}\n{script}");
        self.gate(&self.moto.key).run(["sh", "-c", &script])
    }
}

#[test]
fn objects_are_kept_in_a_bucket() {
    let world = World::new("bucket");
    let service = Service::start(&world);
    service.ask(
        "s3.put_object(Bucket='bucket', Key='folder/blue/given', Body=b'by another', ContentType='text/x')",
    );
    service.ask("s3.put_object(Bucket='bucket', Key='folder/green/secret', Body=b'not ours')");
    service.ask("s3.put_object(Bucket='bucket', Key='blue/outside', Body=b'not ours')");
    let outcome = service.run(
        "c http://objects.internal/given -w '%{content_type}\\n'
         c http://objects.internal/none
         c -X STAT http://objects.internal/given
         c -X STAT http://objects.internal/none
         c -X PUT -H 'content-type: text/plain' -d hello 'http://objects.internal/a%20b/%C3%A4+%26=%3F%23.txt'
         c 'http://objects.internal/a%20b/%C3%A4+%26=%3F%23.txt' -w '%{content_type}\\n'
         for key in ..%2Fx a%2F%2Fb %2Fa a%2F %20 a%2F..%2Fb; do
           c -X PUT -H 'content-type: a/b' -d \"$key\" http://objects.internal/$key; c http://objects.internal/$key
         done
         c -X LIST http://objects.internal/
         c -X LIST http://objects.internal/a%2F
         c -X LIST http://objects.internal/..%2Fgreen
         c http://objects.internal/..%2Fgreen%2Fsecret
         c -X DELETE http://objects.internal/given
         c -X DELETE http://objects.internal/given
         c http://objects.internal/given",
    );
    outcome.assert_success().assert_stdout(
        "by anothertext/x\nnothing 404\n10 text/x 200\nnothing 404\nstored 200\nhellotext/plain\n\
         stored 200\n..%2Fx 200\nstored 200\na%2F%2Fb 200\nstored 200\n%2Fa 200\nstored 200\na%2F 200\n\
         stored 200\n%20 200\nstored 200\na%2F..%2Fb 200\n\
         [\" \",\"../x\",\"/a\",\"a b/ä+&=?#.txt\",\"a/\",\"a/../b\",\"a//b\",\"given\"] 200\n\
         [\"a/\",\"a/../b\",\"a//b\"] 200\n[] 200\nnothing 404\ndeleted 200\ndeleted 200\nnothing 404\n",
    );
    let all = service.ask("print([o['Key'] for o in s3.list_objects_v2(Bucket='bucket')['Contents']])");
    assert!(all.contains("'folder/blue/a b/ä+&=?#.txt'"), "{all}");
    assert!(all.contains("'blue/outside'") && all.contains("'folder/green/secret'"), "{all}");
}

#[test]
fn large_objects_stream_both_ways() {
    const LENGTH: u64 = 32 * 1024 * 1024;
    let world = World::new("bucket-large");
    let service = Service::start(&world);
    world.home_file("large", pseudo_random_chunks(LENGTH).flatten().collect::<Vec<u8>>());
    let outcome = service.run(
        "c -T large http://objects.internal/large
         curl -sS http://objects.internal/large | sha256sum | cut -d ' ' -f 1
         curl -sS http://objects.internal/large | head -c 100 | wc -c
         c -X STAT http://objects.internal/large",
    );
    outcome.assert_success();
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let stat = format!("{LENGTH} none/none 200");
    assert_eq!(lines, ["stored 200", &pseudo_random_sha256(LENGTH), "100", &stat], "{outcome:#?}");
}

#[test]
fn a_torn_upload_leaves_nothing() {
    let world = World::new("bucket-torn");
    let service = Service::start(&world);
    world.home_file("large", vec![b'x'; 16 * 1024 * 1024]);
    let gate = service.gate(&service.moto.key).attach();
    let left = || service.ask("print(len(s3.list_multipart_uploads(Bucket='bucket').get('Uploads', [])))");
    let url = "http://objects.internal/torn";
    // So slow that it is seen at work.
    let upload = gate.job(["curl", "-sS", "--limit-rate", "1M", "-T", "large", url]).spawn();
    wait_until("the upload", Duration::from_secs(60), || left() == "1");
    upload.signal(Signal::SIGKILL);
    upload.wait();
    wait_until("the end of the upload", Duration::from_secs(60), || left() == "0");
    gate.run(["curl", "-sS", url]).assert_stdout("nothing");
}

#[test]
fn a_wrong_key_is_refused_and_no_key_is_shown() {
    let world = World::new("bucket-key");
    let service = Service::start(&world);
    let wrong = e2e::new_token();
    let command = with_token_scan(
        &world,
        &[&wrong, &service.moto.key],
        ["sh", "-c", "for m in GET STAT LIST DELETE; do curl -sS -w ' %{http_code}\n' -X $m http://objects.internal/a; done
                      curl -sS -X PUT -d x http://objects.internal/a"],
    );
    let outcome = service.gate(&wrong).run(command);
    outcome.assert_success();
    assert_eq!(
        outcome.stdout.matches("binding objects: the store refuses access").count(),
        5,
        "{outcome:#?}"
    );
    assert_token_absent(&world, &outcome, &[&wrong, &service.moto.key]);
}
