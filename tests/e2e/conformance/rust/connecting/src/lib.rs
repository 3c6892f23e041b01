//! The conformance handler of connections, in Rust.

use serde_json::json;
use sluicegate_handler::{ConnectionHandler, Context, Decision, Env, Flow, Result, deny, log};

struct OnConnect;

impl ConnectionHandler for OnConnect {
    fn on_connect(flow: Flow, env: Env, _context: Context) -> Result<Decision> {
        env.kv("kv").increment("flows", 1)?;
        let fields = json!({ "host": flow.host, "port": flow.port, "tls": flow.tls });
        log::with(log::Level::Info, "connection", &fields)?;
        match flow.host.as_str() {
            "pinned.test" => Ok(Decision::Pass),
            "refused.test" => deny("not this one"),
            _ => Ok(Decision::Judge),
        }
    }
}

sluicegate_handler::export_on_connect!(OnConnect);
