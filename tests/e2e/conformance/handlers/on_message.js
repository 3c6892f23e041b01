// The handler of messages that every language has.
export default {
  outbound: (request) => fetch(request),

  async onMessage(message, env, ctx) {
    await env.kv.increment("messages");
    switch (message.text) {
      case null:
        return message.bytes.length === 3 ? "three bytes" : true;
      case "drop":
        return false;
      case "change":
        return "changed, ünd so on";
      case "bytes":
        return new Uint8Array([0, 1]);
      case "refuse":
        return deny("not this one");
      case "throw":
        throw new Error("on purpose");
      case "loop":
        for (;;);
    }
    const { direction, text, url, host, port, path, subprotocol } = message;
    console.log("message", { direction, text, url, host, port, path, subprotocol });
  },
};
