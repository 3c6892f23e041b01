//! A browser: a page, what it is made of, and the document after its script has run.

use std::collections::BTreeMap;

use e2e::{Origin, OriginConfig, Reply, World};
use http::Version;

use crate::row::{Client, Row};
use crate::stage::address;

const CHROMIUM: Client = Client {
    name: "Chromium, headless",
    version: "chromium --version --no-sandbox 2>/dev/null | cut -d' ' -f2",
};

/// What the page is made of.
const PARTS: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css", include_str!("page/style.css")),
    ("/script.js", "text/javascript", include_str!("page/script.js")),
    ("/image.svg", "image/svg+xml", include_str!("page/image.svg")),
    ("/data.json", "application/json", include_str!("page/data.json")),
];

/// A browser keeps whom it trusts in a database of its own, of NSS. It prints the document and ends.
const SCRIPT: &str = "
mkdir -p .pki/nssdb
certutil -d sql:.pki/nssdb -N --empty-password
certutil -d sql:.pki/nssdb -A -n gate -t C,, -i \"$SSL_CERT_FILE\"
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking \
    --no-first-run --user-data-dir=\"$HOME/profile\" --virtual-time-budget=20000 --timeout=30000 \
    --dump-dom https://page.test/
";

/// `page.test`.
pub(crate) struct Page {
    origin: Origin,
}

impl Page {
    pub(crate) fn start(world: &World) -> Self {
        let at = address("page.test", 443);
        let config = OriginConfig { address: at.ip(), port: at.port(), ..OriginConfig::default() };
        let origin = Origin::start_with(world, config, |request| {
            match PARTS.iter().find(|(path, ..)| *path == request.path) {
                Some((_, kind, text)) => Reply::new(200, *text).header("content-type", kind),
                None if request.path == "/said" && request.method == "POST" => {
                    Reply::text(format!("{} bytes of {}", request.body_length, request.body_sha256))
                }
                None => Reply::new(404, ""),
            }
        });
        Self { origin }
    }

    /// Fails unless either browser loaded all of the page, over HTTP/2.
    pub(crate) fn assert_every_part_was_loaded_twice(&self) {
        let requests = self.origin.requests();
        let mut loaded: BTreeMap<&str, usize> = BTreeMap::new();
        for request in &requests {
            assert_eq!(request.version, Version::HTTP_2, "{request:#?}");
            *loaded.entry(&request.path).or_default() += 1;
        }
        let wanted = PARTS.iter().map(|(path, ..)| *path).chain(["/said"]).map(|path| (path, 2)).collect();
        assert_eq!(loaded, wanted);
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let protocol = "HTTP/2: page with style, script, image, fetch";
    vec![Row::new(protocol, CHROMIUM, SCRIPT, "all there")]
}
