// What the objects of the platform do: the same here as in Node, whose answers it is compared with.

const utf8 = (text) => Array.from(new TextEncoder().encode(text));
const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** What an expression gives, or the name of what it throws. */
async function outcome(run) {
  try {
    return await run();
  } catch (error) {
    return `throws ${error.name}`;
  }
}

const checks = {
  "text, encoded": () => utf8("aé€\u{1f680}"),
  "text, decoded": () => new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xc3, 0xa9])),
  "text, not UTF-8": () => new TextDecoder().decode(new Uint8Array([0x61, 0xff, 0x62])),
  "text, not UTF-8 and fatal": () => new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xff])),
  "text, in pieces": () => {
    const decoder = new TextDecoder();
    const pieces = [[0xe2], [0x82, 0xac, 0xf0, 0x9f], [0x9a, 0x80]];
    return pieces.map((piece) => decoder.decode(new Uint8Array(piece), { stream: true })).join("|") + decoder.decode();
  },
  "base64": () => [btoa("hello"), atob("aGVsbG8="), atob(" aGVs bG8 ")],
  "base64 of what is no byte": () => btoa("€"),
  "base64 that is none": () => atob("a"),

  "URL, parts": () => {
    const url = new URL("https://user:pass@EXAMPLE.com:8443/a/./b/../c%20d?x=1&x=2&y=a+b#part");
    return [url.href, url.origin, url.protocol, url.host, url.hostname, url.port, url.pathname, url.search, url.hash];
  },
  "URL, default ports": () => [new URL("http://h.test:80/").href, new URL("https://h.test:443").href],
  "URL, relative": () => ["../x", "//other.test/y", "?q", "/z#f", "", "https:w"].map((to) => new URL(to, "https://h.test/a/b?c").href),
  "URL, addresses": () => ["http://0x7f.1/", "http://127.1/", "http://[2001:DB8::0:1]/", "http://256/"].map((text) => new URL(text).host),
  "URL, none": () => new URL("no url"),
  "URL, bad host": () => new URL("http://a b/"),
  "URL, setters": () => {
    const url = new URL("https://h.test/");
    url.pathname = "a b/ü";
    url.search = "k=ü é";
    url.port = "8080";
    url.hash = "";
    url.searchParams.append("more", "a&b");
    return url.href;
  },
  "URL, can parse": () => [new URL("https://h.test").href, String(new URL("HTTPS://H.TEST/%7e"))],
  "query, read": () => {
    const query = new URLSearchParams("?a=1&b=2&a=3&c=%20+&d");
    return [query.get("a"), query.getAll("a"), query.get("c"), query.get("d"), query.get("e"), query.has("b"), [...query.keys()]];
  },
  "query, written": () => {
    const query = new URLSearchParams({ z: "1", a: "ü &=" });
    query.append("z", "2");
    query.set("a", "x y");
    query.delete("z");
    query.append("b", "+");
    query.sort();
    return query.toString();
  },

  "headers": () => {
    const headers = new Headers([["X-One", "1"], ["x-one", " 2 "], ["B", "b"]]);
    headers.append("set-cookie", "a=1");
    headers.append("Set-Cookie", "b=2");
    headers.set("a", "first");
    headers.delete("b");
    return [[...headers], headers.get("X-ONE"), headers.has("b"), headers.get("b")];
  },
  "headers, bad name": () => new Headers([["a b", "1"]]),
  "headers, bad value": () => new Headers({ a: "1\r\nb: 2" }),

  "request": async () => {
    const request = new Request("https://h.test/a?b", { method: "post", body: "text", headers: { "x-a": "1" } });
    const copy = request.clone();
    const other = new Request(request, { method: "PUT", headers: { "x-b": "2" } });
    return [
      request.method, request.url, request.bodyUsed, request.headers.get("content-type"),
      await copy.text(), other.method, [...other.headers], await other.text(), request.bodyUsed,
    ];
  },
  "request, GET with a body": () => new Request("https://h.test/", { body: "x" }),
  "response": async () => {
    const response = new Response('{"a":1}', { status: 201, statusText: "Made", headers: { "x-a": "1" } });
    return [response.status, response.statusText, response.ok, [...response.headers], await response.clone().text(), await response.json()];
  },
  "response, made of values": async () => [
    await Response.json({ a: [1, null] }, { status: 202 }).text(),
    Response.json({}).headers.get("content-type"),
    Response.redirect("https://h.test/x", 307).headers.get("location"),
    await new Response(new Uint8Array([104, 105])).text(),
    await new Response(new URLSearchParams({ a: "b c" })).text(),
    new Response(null, { status: 204 }).body,
  ],
  "response, bad status": () => new Response("", { status: 99 }),
  "response, a body where none may be": () => new Response("x", { status: 204 }),
  "response, read twice": async () => {
    const response = new Response("x");
    await response.text();
    return response.text();
  },
  "body, as bytes": async () => hex(await new Response("é").arrayBuffer()),
  "body, no JSON": () => new Response("{").json(),
  "stream, made and read": async () => {
    const parts = ["a", "bc", "d"].map((text) => new TextEncoder().encode(text));
    const stream = new ReadableStream({
      pull(controller) {
        const part = parts.shift();
        if (part) controller.enqueue(part);
        else controller.close();
      },
    });
    return new Response(stream).text();
  },
  "stream, in two": async () => {
    const [one, two] = new Response("both").body.tee();
    return [await new Response(one).text(), await new Response(two).text()];
  },
  "stream, by a reader": async () => {
    const reader = new Response("read").body.getReader();
    let text = "";
    for (let read = await reader.read(); !read.done; read = await reader.read()) text += new TextDecoder().decode(read.value);
    return text;
  },

  "abort": async () => {
    const controller = new AbortController();
    const seen = [];
    controller.signal.addEventListener("abort", () => seen.push("heard"));
    controller.abort();
    return [controller.signal.aborted, controller.signal.reason.name, seen];
  },
  "abort, by time": async () => {
    const signal = AbortSignal.timeout(20);
    await new Promise((resolve) => setTimeout(resolve, 60));
    return [signal.aborted, signal.reason?.name];
  },
  "timers, in order": async () => {
    const seen = [];
    const wait = (name, delay) => new Promise((resolve) => setTimeout(() => resolve(seen.push(name)), delay));
    const removed = setTimeout(() => seen.push("removed"), 1);
    clearTimeout(removed);
    queueMicrotask(() => seen.push("at once"));
    await Promise.all([wait("second", 60), wait("first", 10)]);
    return seen;
  },
  "timers, again and again": async () => {
    let turns = 0;
    await new Promise((resolve) => {
      const timer = setInterval(() => {
        turns += 1;
        if (turns === 3) resolve(clearInterval(timer));
      }, 2);
    });
    return turns;
  },
  "clone": () => {
    const copy = structuredClone({ a: [1, { b: new Date(5) }], c: new Map([["k", 1]]) });
    return [copy.a[1].b.getTime(), copy.c.get("k"), copy.a.length];
  },
  "digest": async () => hex(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("abc"))),
  "random": () => {
    const [one, two] = [new Uint8Array(16), new Uint8Array(16)].map((bytes) => hex(crypto.getRandomValues(bytes)));
    return [one !== two, one.length, crypto.randomUUID().length, crypto.randomUUID() !== crypto.randomUUID()];
  },
  "time": () => [Math.abs(Date.now() - new Date().getTime()) < 1000, Date.now() > 1.7e12, performance.now() >= 0],
  "exception": () => {
    const error = new DOMException("words", "AbortError");
    return [error.name, error.message, error instanceof Error];
  },
};

export async function probe() {
  const results = {};
  for (const [name, run] of Object.entries(checks)) results[name] = (await outcome(run)) ?? null;
  return results;
}

export default {
  outbound: async () => Response.json(await probe()),
};
