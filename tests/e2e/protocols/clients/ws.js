// The ws package: text, a mebibyte, a ping, and a close by the server.
const { createHash } = require("node:crypto");
const WebSocket = require("ws");

const socket = new WebSocket(process.argv[2], ["chat.v2"], { perMessageDeflate: true });
const large = Buffer.alloc(1 << 20, "sluice");
let messages = 0;
socket.on("upgrade", (response) => console.log(response.statusCode, Object.keys(response.headers).sort().join()));
socket.on("open", () => {
  console.log(socket.protocol, socket.extensions);
  socket.send("grüße");
});
socket.on("message", (data, isBinary) => {
  console.log(isBinary, data.length, createHash("sha256").update(data).digest("hex"));
  messages += 1;
  if (messages === 1) socket.send(large);
  else socket.ping("p");
});
socket.on("pong", (data) => {
  console.log(`pong ${data}`);
  socket.send("close 4001");
});
socket.on("error", (error) => console.log(String(error)));
socket.on("close", (code, reason) => console.log(code, String(reason)));
