export default {
  outboundByHost: {
    "my.kv": async (request, env) => {
      const value = await env.KV.get(new URL(request.url).pathname.slice(1));
      return value === null ? new Response(null, { status: 404 }) : new Response(value);
    },
    "objects.internal": async (request, env, ctx) => {
      const object = await env.OBJECTS.get(`${ctx.containerId}${new URL(request.url).pathname}`);
      return object ? new Response(object.body) : new Response(null, { status: 404 });
    },
  },
};
