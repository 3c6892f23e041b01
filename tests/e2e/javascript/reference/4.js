export const outboundHandlers = {
  async allowHosts(request, env, { params }) {
    return params.allowedHostnames.includes(new URL(request.url).hostname) ? fetch(request) : new Response(null, { status: 403 });
  },
  async noHttp() { return new Response(null, { status: 403 }); },
};
