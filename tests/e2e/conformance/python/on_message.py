"""The handler of messages that every language has."""

from sluicegate_policy import Handler, deny, fetch, log


class OnMessage(Handler):
    def outbound(self, request, env, ctx):
        return fetch(request)

    def on_message(self, message, env, ctx):
        env.kv.increment("messages")
        match message.text:
            case None:
                return "three bytes" if len(message.bytes) == 3 else True
            case "drop":
                return False
            case "change":
                return "changed, ünd so on"
            case "bytes":
                return b"\x00\x01"
            case "refuse":
                deny("not this one")
            case "throw":
                raise RuntimeError("on purpose")
            case "loop":
                while True:
                    pass
        names = ("direction", "text", "url", "host", "port", "path", "subprotocol")
        log.info("message", **{name: getattr(message, name) for name in names})
