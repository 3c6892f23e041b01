//! From the function that the gate calls to the handler of the author's.

use crate::bindings::{self, Guest, connection, message};
use crate::{Context, Decision, Env, Error, Flow, Message, MessageVerdict, Request, Response, Result, log};

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

/// A handler that is asked about connections, to be handed to
/// [`export_on_connect!`](crate::export_on_connect!). A type can have [`Handler`] as well; each is called
/// in an instance of its own.
///
/// ```
/// use sluicegate_handler::{ConnectionHandler, Context, Decision, Env, Flow, Result, deny};
///
/// struct Pinned;
///
/// impl ConnectionHandler for Pinned {
///     fn on_connect(flow: Flow, _env: Env, _context: Context) -> Result<Decision> {
///         match flow.host.as_str() {
///             "pinned.example.com" if flow.tls => Ok(Decision::Pass),
///             "closed.example.com" => deny("nobody goes there"),
///             _ => Ok(Decision::Judge),
///         }
///     }
/// }
///
/// sluicegate_handler::export_on_connect!(Pinned);
/// ```
pub trait ConnectionHandler {
    /// Decides about one connection, before there is a request: whether it is judged by what the document
    /// says, or passed on unopened, which it is where the lists of hosts admit that.
    ///
    /// # Errors
    /// [`Error::Denied`](crate::Error::Denied) refuses it. Any other error, and a panic, is a fault of the
    /// handler and refuses it too; the log says why.
    fn on_connect(flow: Flow, env: Env, context: Context) -> Result<Decision>;
}

/// A [`Handler`] that is asked about the messages of the WebSockets which it lets through too, to be handed to
/// [`export_on_message!`](crate::export_on_message!). Each message is judged in an instance of its own.
///
/// ```
/// use sluicegate_handler::{
///     Context, Env, Handler, Message, MessageContent, MessageDirection, MessageHandler, MessageVerdict, Request,
///     Response, Result, deny, fetch,
/// };
///
/// struct Chat;
///
/// impl Handler for Chat {
///     fn outbound(request: Request, _env: Env, _context: Context) -> Result<Response> {
///         fetch(request)
///     }
/// }
///
/// impl MessageHandler for Chat {
///     fn on_message(message: Message, _env: Env, _context: Context) -> Result<MessageVerdict> {
///         match (message.direction, message.content) {
///             (MessageDirection::Received, _) => Ok(MessageVerdict::Pass),
///             (_, MessageContent::Text(text)) if text.len() < 1000 => Ok(MessageVerdict::Pass),
///             _ => deny("short texts only"),
///         }
///     }
/// }
///
/// sluicegate_handler::export!(Chat);
/// sluicegate_handler::export_on_message!(Chat);
/// ```
pub trait MessageHandler: Handler {
    /// Decides about one message of a WebSocket that [`Handler::outbound`] let through: whether it goes on, is left
    /// out, or another goes on in its place.
    ///
    /// # Errors
    /// [`Error::Denied`](crate::Error::Denied) closes the WebSocket with 1008. Any other error, and a panic, is a
    /// fault of the handler and closes it with 1011; the log says why.
    fn on_message(message: Message, env: Env, context: Context) -> Result<MessageVerdict>;
}

impl<H: MessageHandler> message::Guest for H {
    fn on_message(message: Message) -> std::result::Result<MessageVerdict, bindings::Error> {
        log_panics();
        H::on_message(message, Env::new(), Context::new()).map_err(Error::into_host)
    }
}

impl<H: ConnectionHandler> connection::Guest for H {
    fn on_connect(flow: Flow) -> std::result::Result<Decision, bindings::Error> {
        log_panics();
        H::on_connect(flow, Env::new(), Context::new()).map_err(Error::into_host)
    }
}

impl<H: Handler> Guest for H {
    fn outbound(request: bindings::Request) -> std::result::Result<bindings::Response, bindings::Error> {
        log_panics();
        match H::outbound(Request::from_host(request), Env::new(), Context::new()) {
            Ok(response) => Ok(response.into_host()),
            Err(error) => Err(error.into_host()),
        }
    }
}

/// Where a panic happened is told before it ends the instance.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::error(&panic.to_string().replace('\n', " "))));
}

/// Makes a type with [`Handler`] the handler of this component. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export {
    ($handler:ident) => {
        $crate::bindings::export_guest!($handler with_types_in $crate::bindings);
    };
}

/// Makes a type with [`ConnectionHandler`] what this component is asked about connections. Once in a crate
/// of type `cdylib`, with [`export!`] or without.
#[macro_export]
macro_rules! export_on_connect {
    ($handler:ident) => {
        $crate::bindings::connection::export_connection_guest!($handler with_types_in $crate::bindings::connection);
    };
}

/// Makes a type with [`MessageHandler`] what this component is asked about messages. Once in a crate of type
/// `cdylib`, beside [`export!`].
#[macro_export]
macro_rules! export_on_message {
    ($handler:ident) => {
        $crate::bindings::message::export_message_guest!($handler with_types_in $crate::bindings::message);
    };
}
