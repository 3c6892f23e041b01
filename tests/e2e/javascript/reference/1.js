export default {
  async outbound(request, env, ctx) {
    if (request.method === "GET") return fetch(request);
    console.log(`${ctx.containerId} tried ${request.method} ${request.url}`);
    return new Response("read only", { status: 405, statusText: "Method Not Allowed" });
  },
};
