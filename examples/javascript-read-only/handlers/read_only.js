// Lets reading through, and answers everything else by itself.
export default {
  async outbound(request, env, ctx) {
    if (request.method === "GET") return fetch(request);
    console.warn(`${ctx.containerId} tried ${request.method} ${request.url}`);
    return new Response("read only\n", { status: 405 });
  },
};
