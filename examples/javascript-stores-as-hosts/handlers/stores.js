// Two hosts that exist only here. Each container sees what is its own.
export const outboundByHost = {
  // http://my.kv/KEY: a small value to read, write and remove.
  "http://my.kv": async (request, env, ctx) => {
    const key = ctx.containerId + new URL(request.url).pathname;
    switch (request.method) {
      case "GET": {
        const value = await env.NOTES.get(key);
        return value === null ? new Response("no such key\n", { status: 404 }) : new Response(value);
      }
      case "PUT":
        await env.NOTES.put(key, await request.text());
        return new Response(null, { status: 204 });
      case "DELETE":
        await env.NOTES.delete(key);
        return new Response(null, { status: 204 });
      default:
        return new Response("GET, PUT or DELETE\n", { status: 405 });
    }
  },

  // http://objects.internal/PATH: a file, of any size: it streams, and the handler never reads it.
  "http://objects.internal": async (request, env, ctx) => {
    const key = ctx.containerId + new URL(request.url).pathname;
    switch (request.method) {
      case "GET": {
        const object = await env.FILES.get(key);
        if (object === null) return new Response("no such object\n", { status: 404 });
        const type = object.httpMetadata.contentType ?? "application/octet-stream";
        return new Response(object.body, { headers: { "content-type": type } });
      }
      case "PUT": {
        const contentType = request.headers.get("content-type") ?? undefined;
        await env.FILES.put(key, request.body ?? "", { httpMetadata: { contentType } });
        return new Response(null, { status: 204 });
      }
      case "DELETE":
        await env.FILES.delete(key);
        return new Response(null, { status: 204 });
      default:
        return new Response("GET, PUT or DELETE\n", { status: 405 });
    }
  },
};
