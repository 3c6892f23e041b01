// A token for one host, the same for all; and a key for another host, each container its own.
export class Tokens {
  static outboundByHost = {
    "https://vcs.example.com": async (request, env) => {
      const headers = new Headers(request.headers);
      headers.set("x-auth-token", env.VCS_TOKEN);
      return fetch(new Request(request, { headers }));
    },

    "https://api.example.com": async (request, env, ctx) => {
      const key = await env.KEYS.get(ctx.containerId);
      if (key === null) deny(`no key is stored for ${ctx.containerId}`);
      const forOne = new Request(request);
      forOne.headers.set("authorization", `Bearer ${key}`);
      return fetch(forOne);
    },
  };
}
