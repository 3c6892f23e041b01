//! From the function that the gate calls to the handler of the author's.

use crate::bindings::{self, Guest};
use crate::{Context, Env, Request, Response, Result, log};

/// A handler, to be handed to [`export!`](crate::export!).
pub trait Handler {
    /// Decides about one request: the response to answer with, most often what [`fetch`](crate::fetch)
    /// gave.
    ///
    /// # Errors
    /// [`Error::Denied`](crate::Error::Denied) refuses the request (403), and the workload is told the
    /// reason. Any other error, and a panic, is a fault of the handler: the workload gets 502, and the
    /// log says why.
    fn outbound(request: Request, env: Env, context: Context) -> Result<Response>;
}

impl<H: Handler> Guest for H {
    fn outbound(request: bindings::Request) -> std::result::Result<bindings::Response, bindings::Error> {
        std::panic::set_hook(Box::new(|panic| log::error(&panic.to_string().replace('\n', " "))));
        match H::outbound(Request::from_host(request), Env::new(), Context::new()) {
            Ok(response) => Ok(response.into_host()),
            Err(error) => Err(error.into_host()),
        }
    }
}

/// Makes a type with [`Handler`] the handler of this component. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export {
    ($handler:ident) => {
        $crate::bindings::export_guest!($handler with_types_in $crate::bindings);
    };
}
