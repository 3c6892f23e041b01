//! HTTP: command line tools and the libraries of languages, against an origin that tells each request as it
//! arrived, and against nginx.

use std::fs::{File, FileTimes};
use std::time::{Duration, UNIX_EPOCH};

use e2e::{Identity, Nginx, Origin, OriginConfig, Received, Reply, World, pseudo_random_chunks};
use serde_json::json;

use crate::row::{Client, Row};
use crate::stage::address;

pub(crate) const CURL: Client =
    Client { name: "curl", version: "curl -V | sed -n '1s/curl \\([^ ]*\\).*/\\1/p'" };
const WGET: Client = Client { name: "wget", version: "wget -V | sed -n '1s/GNU Wget \\([^ ]*\\).*/\\1/p'" };
pub(crate) const NODE: Client = Client { name: "node, fetch", version: "node -p process.version" };
const URLLIB: Client = Client { name: "Python urllib", version: "/usr/bin/python3 -V | cut -d' ' -f2" };
const REQUESTS: Client = Client {
    name: "Python requests",
    version: "/usr/bin/python3 -c 'import requests; print(requests.__version__)'",
};
const HTTPX: Client =
    Client { name: "Python httpx", version: "\"$PY\" -c 'import httpx; print(httpx.__version__)'" };
const JAVA: Client =
    Client { name: "Java HttpClient", version: "java --version | sed -n '1s/openjdk \\([^ ]*\\).*/\\1/p'" };

/// Whenever this table is made, the origin says that it is then.
const DATE: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
/// Fields that are about one connection, of which there are two through the gate (RFC 9110 section 7.6.1).
const OF_THE_HOP: [&str; 2] = ["connection", "transfer-encoding"];
/// Bytes of what is large.
const LARGE: u64 = 3_000_000;

/// `api.test` and `files.test`.
pub(crate) struct Web<'world> {
    _api: Origin,
    _files: Nginx<'world>,
}

impl<'world> Web<'world> {
    pub(crate) fn start(world: &'world World) -> Self {
        let at = address("api.test", 443);
        let config = OriginConfig {
            address: at.ip(),
            port: at.port(),
            identity: Identity::Trusted,
            ..OriginConfig::default()
        };
        let api = Origin::start_with(world, config, |request| answer(request).header("date", DATE));
        let large: Vec<u8> = pseudo_random_chunks(LARGE).flatten().collect();
        let site = world.file("site/large", large).parent().unwrap().display().to_string();
        let page = world.file("site/page.txt", "a line of a page\n".repeat(1000));
        // Its ETag is made of its time.
        let time = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        File::options().write(true).open(page).unwrap().set_times(time).unwrap();
        let locations = format!(
            "root {site}; gzip on; gzip_types text/plain; location / {{ }} \
             location /old {{ return 301 https://files.test/page.txt; }}"
        );
        let files = Nginx::start_at(world, "files.test", address("files.test", 443), &locations);
        for (name, text) in [
            ("fetch.mjs", include_str!("clients/fetch.mjs")),
            ("urllib_client.py", include_str!("clients/urllib_client.py")),
            ("requests_client.py", include_str!("clients/requests_client.py")),
            ("httpx_client.py", include_str!("clients/httpx_client.py")),
            ("Client.java", include_str!("clients/Client.java")),
        ] {
            world.file(&format!("clients/{name}"), text);
        }
        Self { _api: api, _files: files }
    }
}

/// Each answer states its length, which would else come after the fields of the hop.
fn answer(request: &Received) -> Reply {
    let stated = |status, body: &str| {
        Reply::new(status, body.to_owned()).header("content-length", &body.len().to_string())
    };
    let length = LARGE.to_string();
    match (request.method.as_str(), request.path.as_str()) {
        ("HEAD", _) => Reply::new(200, "").header("content-length", &length),
        (_, "/large") => Reply::pseudo_random(LARGE).header("content-length", &length),
        (_, "/missing") => stated(404, "nothing here\n").header("x-reason", "missing"),
        (_, "/elsewhere") => stated(302, "over there\n").header("location", "/seen?after=redirect"),
        (_, "/cookies") => {
            stated(200, "two\n").header("set-cookie", "a=1; Path=/").header("set-cookie", "b=2")
        }
        _ => stated(200, &seen(request)).header("content-type", "application/json"),
    }
}

/// The request as it arrived, so that a difference in what the origin is asked is one in the answer.
fn seen(request: &Received) -> String {
    let of_the_hop = |name: &str| OF_THE_HOP.contains(&name);
    let headers: Vec<_> = request.headers.iter().filter(|(name, _)| !of_the_hop(name)).collect();
    let request = json!({
        "method": request.method,
        "path": request.path,
        "authority": request.authority,
        "version": format!("{:?}", request.version),
        "headers": headers,
        "body": [request.body_length, request.body_sha256],
        "trailers": request.trailers,
    });
    format!("{request}\n")
}

pub(crate) fn rows() -> Vec<Row> {
    let java = |version: &str| format!("java \"$CLIENTS/Client.java\" {version}");
    [
        curl_rows(),
        vec![
            Row::new(
                "HTTP/1.1: file, redirect",
                WGET,
                "mkdir got; wget -q -O got/large https://files.test/large; wget -q -O - https://files.test/old",
                "a line of a page",
            ),
            Row::new("HTTP/1.1: GET, POST, large answer", NODE, "node \"$CLIENTS/fetch.mjs\"", "3000000 "),
            Row::new(
                "HTTP/1.1: GET, POST, large answer",
                URLLIB,
                "/usr/bin/python3 \"$CLIENTS/urllib_client.py\"",
                "3000000 ",
            ),
            Row::new(
                "HTTP/1.1: session, POST, large answer",
                REQUESTS,
                "/usr/bin/python3 \"$CLIENTS/requests_client.py\"",
                "3000000 ",
            ),
            Row::new(
                "HTTP/1.1: session, POST, large answer",
                HTTPX,
                "\"$PY\" \"$CLIENTS/httpx_client.py\" 1",
                "HTTP/1.1 3000000 ",
            ),
            Row::new(
                "HTTP/2: session, POST, large answer",
                HTTPX,
                "\"$PY\" \"$CLIENTS/httpx_client.py\" 2",
                "HTTP/2 3000000 ",
            ),
            Row::new("HTTP/1.1: GET, POST, large answer", JAVA, java("HTTP_1_1"), "HTTP_1_1 3000000 "),
            Row::new("HTTP/2: GET, POST, large answer", JAVA, java("HTTP_2"), "HTTP_2 3000000 "),
        ],
    ]
    .concat()
}

fn curl_rows() -> Vec<Row> {
    let upload = |version: &str, length: u32| {
        format!(
            "head -c {length} /dev/zero | tr '\\0' x >up; curl -sS {version} -i -T up https://api.test/up"
        )
    };
    let parallel = |version: &str| {
        format!(
            "curl -sS {version} --parallel --parallel-immediate --parallel-max 50 --create-dirs \
             -o 'got/#1' 'https://api.test/[1-50]'; ls got | wc -l"
        )
    };
    let answers = |version: &str| {
        format!(
            "curl -sS {version} -i https://api.test/seen -H 'X-Client: a,  b' https://api.test/missing \
             https://api.test/cookies -L https://api.test/elsewhere"
        )
    };
    vec![
        Row::new("HTTP/1.1: answers with their heads", CURL, answers("--http1.1"), "/seen?after=redirect"),
        Row::new("HTTP/2: answers with their heads", CURL, answers("--http2"), "/seen?after=redirect"),
        Row::new("HTTP/1.1: 50 in parallel", CURL, parallel("--http1.1"), "50\n"),
        Row::new("HTTP/2: 50 in parallel", CURL, parallel("--http2"), "50\n"),
        Row::new("HTTP/1.1: upload", CURL, upload("--http1.1", 3_000_000), "[3000000,"),
        // libcurl 7.88, which Debian 12 has, sends parts of larger ones twice over HTTP/2 once it had to wait,
        // with or without a gate.
        Row::new("HTTP/2: upload", CURL, upload("--http2", 60_000), "[60000,"),
        Row::new(
            "HTTP/1.1 and HTTP/2: HEAD",
            CURL,
            "for version in 1.1 2; do curl -sS --http$version -I https://api.test/large; done",
            "HTTP/2 200",
        ),
        Row::new(
            "HTTP/2: ranges",
            CURL,
            "mkdir got; curl -sS -r 1000-1999 -o got/part -w '%{http_code} %header{content-range}\\n' \
             https://files.test/large; curl -sS -r 9000000- -w '%{http_code} %header{content-range}\\n' \
             -o got/none https://files.test/large",
            "206 bytes 1000-1999/3000000\n416 bytes */3000000\n",
        ),
        Row::new(
            "HTTP/2: gzip, ETag",
            CURL,
            "mkdir got; url=https://files.test/page.txt; curl -sS --compressed $url >got/page; \
             curl -sS -H 'Accept-Encoding: gzip' $url >got/packed; \
             curl -sS --etag-save got/etag -o got/again $url; \
             curl -sS --etag-compare got/etag -w '%{http_code} %{size_download}' $url",
            "304 0",
        ),
    ]
}
