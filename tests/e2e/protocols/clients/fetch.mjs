// fetch of node (undici): what it asks, what it is answered, and a large answer.
import { createHash } from "node:crypto";

async function tell(path, options) {
  const response = await fetch(`https://api.test${path}`, options);
  console.log(response.status, response.redirected, JSON.stringify([...response.headers]), await response.text());
}

await tell("/seen?of=node&empty=", { headers: { "X-Client": "a,  b" } });
await tell("/missing");
await tell("/cookies");
await tell("/elsewhere");
await tell("/form", { method: "POST", body: new URLSearchParams({ a: "1", b: "zwei ü" }) });
// Of no known length.
const pieces = new ReadableStream({
  start(controller) {
    for (let number = 0; number < 100; number++) controller.enqueue(new Uint8Array(3000).fill(number));
    controller.close();
  },
});
await tell("/stream", { method: "POST", body: pieces, duplex: "half" });
const large = Buffer.from(await (await fetch("https://api.test/large")).arrayBuffer());
console.log(large.length, createHash("sha256").update(large).digest("hex"));
