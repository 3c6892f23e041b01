"""The conformance handler of connections, in Python."""

from sluicegate_policy import Handler, deny, log


class OnConnect(Handler):
    def on_connect(self, flow, env, ctx):
        env.kv.increment("flows")
        log.info("connection", host=flow.host, port=flow.port, tls=flow.tls)
        if flow.host == "pinned.test":
            return "pass"
        if flow.host == "refused.test":
            deny("not this one")
        return "judge"
