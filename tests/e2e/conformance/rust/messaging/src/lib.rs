//! The conformance handler of messages, in Rust.

use serde_json::json;
use sluicegate_handler::{
    Context, Env, Error, Handler, Message, MessageContent, MessageDirection, MessageHandler, MessageVerdict,
    Request, Response, Result, deny, fetch, log,
};

struct OnMessage;

impl Handler for OnMessage {
    fn outbound(request: Request, _env: Env, _context: Context) -> Result<Response> {
        fetch(request)
    }
}

impl MessageHandler for OnMessage {
    fn on_message(message: Message, env: Env, _context: Context) -> Result<MessageVerdict> {
        env.kv("kv").increment("messages", 1)?;
        let text = match message.content {
            MessageContent::Binary(bytes) if bytes.len() == 3 => return Ok(replaced("three bytes")),
            MessageContent::Binary(_) => return Ok(MessageVerdict::Pass),
            MessageContent::Text(text) => text,
        };
        match text.as_str() {
            "drop" => return Ok(MessageVerdict::Drop),
            "change" => return Ok(replaced("changed, ünd so on")),
            "bytes" => return Ok(MessageVerdict::Replace(MessageContent::Binary(vec![0, 1]))),
            "refuse" => return deny("not this one"),
            "throw" => return Err(Error::Failed("on purpose".to_owned())),
            "loop" => loop {
                std::hint::spin_loop();
            },
            _ => {}
        }
        let direction = match message.direction {
            MessageDirection::Sent => "sent",
            MessageDirection::Received => "received",
        };
        let fields = json!({
            "direction": direction, "text": text, "url": message.url, "host": message.host,
            "port": message.port, "path": message.path, "subprotocol": message.subprotocol,
        });
        log::with(log::Level::Info, "message", &fields)?;
        Ok(MessageVerdict::Pass)
    }
}

fn replaced(text: &str) -> MessageVerdict {
    MessageVerdict::Replace(MessageContent::Text(text.to_owned()))
}

sluicegate_handler::export!(OnMessage);
sluicegate_handler::export_on_message!(OnMessage);
