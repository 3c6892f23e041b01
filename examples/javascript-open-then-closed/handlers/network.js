// Named handlers, to be set from outside while the workload runs.
export const outboundHandlers = {
  // The list comes with the command that sets the handler.
  async allowHosts(request, env, { params }) {
    const { hostname } = new URL(request.url);
    if (params.allowedHostnames.includes(hostname)) return fetch(request);
    return deny(`${hostname} is not needed for the set-up`);
  },

  async noHttp() {
    return deny("the network is closed");
  },
};
