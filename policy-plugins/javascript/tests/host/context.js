// The host's interface `context`.

export const counted = { current: 0, environment: 0 };

export default {
  current() {
    counted.current++;
    return {
      containerId: "c0ffee",
      instanceId: "box",
      labels: [["tier", "dev"]],
      requestId: "r-1",
      originalDestination: "198.18.0.2:443",
      sni: null,
      tls: null,
      protocol: "HTTP/1.1",
      handler: "policy.js",
      handlerVersion: "0123456789ab",
      params: '{"allowed":["a.test"]}',
    };
  },
  environment() {
    counted.environment++;
    return [
      ["TOKEN", { tag: "secret" }],
      ["KV", { tag: "kv" }],
      ["OBJECTS", { tag: "objects" }],
      ["LIMIT", { tag: "constant", val: '{"most":[1,2]}' }],
    ];
  },
};
