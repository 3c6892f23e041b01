export class Box {
  static outboundByHost = {
    "vcs.internal.test": async (request, env, ctx) => {
      const headers = new Headers(request.headers);
      headers.set("x-auth-token", env.VCS_TOKEN);               // an opaque secret: put in at egress
      return fetch(new Request(request, { headers }));
    },
    "api.internal.test": async (request, env, ctx) => {
      const forOne = new Request(request);
      forOne.headers.set("authorization", await env.KEYS.get(ctx.containerId));
      return fetch(forOne);
    },
  };
}
