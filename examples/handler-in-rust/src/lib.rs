//! Lets reading through, with a token that this code never has, and answers everything else by itself.

use sluicegate_handler::{Context, Env, Handler, Request, Response, Result, fetch, log};

struct ReadOnly;

impl Handler for ReadOnly {
    fn outbound(mut request: Request, env: Env, context: Context) -> Result<Response> {
        if request.method() == "GET" {
            request.set_bearer(env.secret("API_TOKEN")?)?;
            return fetch(request);
        }
        log::warn(&format!("{} tried {} {}", context.container_id(), request.method(), request.path()));
        Response::text(405, "read only\n")
    }
}

sluicegate_handler::export!(ReadOnly);
