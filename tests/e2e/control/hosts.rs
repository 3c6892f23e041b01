//! Hosts that are allowed and denied while the instance runs.

use e2e::{Attached, Site, World};
use serde_json::json;

use crate::support::{ask, asked, assert_line, operator, refused};

const NAMES: [&str; 4] = ["a.test", "b.test", "x.c.test", "y.c.test"];

/// What becomes of a request to each of [`NAMES`].
fn told(gate: &Attached<'_>) -> [String; 4] {
    NAMES.map(|name| ask(gate, &[&format!("https://{name}/")]).replace(&format!("origin: {name}"), "-"))
}

fn started<'world>(world: &'world World, site: &Site, text: &str) -> Attached<'world> {
    world.gate(&site.policy(world, text, &NAMES)).named("box").attach()
}

const OUT: &str = "403 not_in_allowed_hosts";
const DENIED: &str = "403 denied_host";
const UNNAMED: &str = "403 not_named";

#[test]
fn hosts_are_allowed_denied_and_taken_out_again() {
    let world = World::new("hosts");
    let site = Site::start(&world);
    let gate = started(&world, &site, "allowed_hosts = [\"a.test\"]");
    assert_eq!(told(&gate), ["-", OUT, OUT, OUT]);
    operator(&gate, &["host", "allow", "b.test", "*.c.test"]);
    assert_eq!(told(&gate), ["-", "-", "-", "-"]);
    operator(&gate, &["host", "deny", "X.c.test."]);
    assert_eq!(told(&gate), ["-", "-", DENIED, "-"]);
    // Out of whichever list it is in, whether the document or a command put it there.
    operator(&gate, &["host", "remove", "x.c.test"]);
    operator(&gate, &["host", "remove", "a.test"]);
    assert_eq!(told(&gate), [OUT, "-", "-", "-"]);
    operator(&gate, &["host", "allow", "a.test"]);
    operator(&gate, &["host", "remove", "--allowed", "*.c.test"]);
    assert_eq!(told(&gate), ["-", "-", OUT, OUT]);
    let lines = asked(&gate, &["host", "list"]);
    let shown: Vec<_> = lines
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["key"].as_str().unwrap(), line["value"].as_str().unwrap()))
        .collect();
    assert!(
        shown.contains(&("allowed_hosts", "a.test")) && shown.contains(&("allowed_hosts", "b.test")),
        "{lines:#}"
    );
    assert_eq!(shown.len(), 2, "{lines:#}");
}

#[test]
fn lists_are_replaced_as_a_whole_or_not() {
    let world = World::new("replace");
    let site = Site::start(&world);
    let text = "allowed_hosts = [\"a.test\", \"b.test\"]\ndenied_hosts = [\"b.test\"]";
    let gate = started(&world, &site, text);
    assert_eq!(told(&gate), ["-", DENIED, OUT, OUT]);
    operator(&gate, &["host", "replace", "--allowed", "b.test", "*.c.test"]);
    operator(&gate, &["host", "replace", "--denied", "y.c.test"]);
    assert_eq!(told(&gate), [OUT, "-", "-", DENIED]);
    for bad in ["google.*", "a.test/path", ""] {
        let outcome = refused(&gate, &["host", "replace", "--allowed", "a.test", bad], 64);
        assert!(outcome.stderr.contains(&format!("`{bad}`")), "{outcome:?}");
        refused(&gate, &["host", "allow", bad], 64);
        refused(&gate, &["host", "deny", bad], 64);
        assert_eq!(told(&gate), [OUT, "-", "-", DENIED], "{bad}");
    }
    operator(&gate, &["host", "replace", "--denied"]);
    operator(&gate, &["host", "replace", "--allowed"]);
    assert_eq!(told(&gate), [OUT, OUT, OUT, OUT]);
    // What stands in the document comes back when what was changed at run time is taken back.
    operator(&gate, &["policy", "reset", "--all"]);
    assert_eq!(told(&gate), ["-", DENIED, OUT, OUT]);
    assert_line(&asked(&gate, &["status", "get"]), &json!({"overridden": false}));
}

#[test]
fn a_host_that_is_allowed_without_a_list_opens_itself_alone() {
    let world = World::new("unlisted");
    let site = Site::start(&world);
    let gate = started(&world, &site, "");
    assert_eq!(told(&gate), [UNNAMED; 4]);
    operator(&gate, &["host", "allow", "a.test"]);
    assert_eq!(told(&gate), ["-", UNNAMED, UNNAMED, UNNAMED]);
    operator(&gate, &["host", "remove", "a.test"]);
    assert_eq!(told(&gate), [UNNAMED; 4]);
}
