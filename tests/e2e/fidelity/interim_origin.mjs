// An origin that says something before it answers: HTTP/1.1 on one port, HTTP/2 on the other, both over TLS and
// nothing else there.

import { readFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import { createServer } from "node:tls";

const [address, http1Port, http2Port, certificate, key] = process.argv.slice(2);
const identity = { cert: readFileSync(certificate), key: readFileSync(key) };
const links = (...values) => ({ link: values });
const before = {
    "/hints": [[103, links("</a.css>; rel=preload", "</b.js>")], [102, {}], [103, links("</c>")]],
    "/flood": Array(5000).fill([103, links(`</${"x".repeat(200)}>`)]),
};
const say = (fields) => console.log(JSON.stringify(fields));

// HTTP/1.1 byte by byte, one request after the other.
const http1 = createServer({ ...identity, ALPNProtocols: ["http/1.1"], allowHalfOpen: true }, async (io) => {
    io.on("error", () => {});
    const bytes = io.iterator({ destroyOnReturn: false });
    let read = "";
    const more = async () => {
        const { value, done } = await bytes.next();
        read += done ? "" : value.toString("latin1");
        return !done;
    };
    const head = async () => {
        while (!read.includes("\r\n\r\n")) if (!(await more())) return null;
        const end = read.indexOf("\r\n\r\n");
        const text = read.slice(0, end);
        read = read.slice(end + 4);
        return text;
    };
    for (let text; (text = await head()) !== null; ) {
        const [method, path] = text.split(" ");
        const field = (name) => text.match(new RegExp(`^${name}: (.*)$`, "im"))?.[1];
        say({ event: "head", path, version: "1.1", expect: field("expect") });
        for (const [status, fields] of before[path] ?? []) {
            // One of a hop, which is not passed on.
            const lines = ["connection: x-hop", "x-hop: 1", ...(fields.link ?? []).map((link) => `link: ${link}`)];
            io.write(`HTTP/1.1 ${status} Early\r\n${lines.join("\r\n")}\r\n\r\n`);
        }
        if (path === "/refused") {
            io.end("HTTP/1.1 417 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            // To its end: whoever was refused sends nothing.
            try { while (await more()); } catch {}
            return say({ event: "body", path, bytes: read.length });
        }
        if (path === "/taken") io.write("HTTP/1.1 100 Continue\r\n\r\n");
        if (method === "PUT") {
            const length = Number(field("content-length"));
            while (read.length < length && (await more()));
            say({ event: "body", path, bytes: Math.min(read.length, length) });
            read = read.slice(length);
        }
        io.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
    io.end();
});

const http2 = createSecureServer(identity);
http2.on("stream", (stream, headers) => {
    const path = headers[":path"];
    const answer = (status, text) => {
        stream.respond({ ":status": status, "content-length": text.length });
        stream.end(text);
    };
    let bytes = 0;
    say({ event: "head", path, version: "2", expect: headers.expect });
    stream.on("error", () => {});
    stream.on("data", (data) => (bytes += data.length));
    stream.on("close", () => headers[":method"] === "PUT" && say({ event: "body", path, bytes }));
    for (const [status, fields] of before[path] ?? []) stream.additionalHeaders({ ":status": status, ...fields });
    if (path === "/refused") answer(417, "no");
    else if (path === "/taken") stream.additionalHeaders({ ":status": 100 });
    stream.on("end", () => path !== "/refused" && answer(200, "ok"));
});
http2.on("sessionError", () => {});

http1.listen(Number(http1Port), address, () =>
    http2.listen(Number(http2Port), address, () => say({ event: "ready" })));
