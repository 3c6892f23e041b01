"""Lets reading through, with a token that this code never has, and answers everything else by itself."""

from sluicegate_policy import Handler, Response, fetch, log


class ReadOnly(Handler):
    def outbound(self, request, env, ctx):
        if request.method == "GET":
            request.set_bearer(env.API_TOKEN)
            return fetch(request)
        log.warn(f"{ctx.container_id} tried {request.method} {request.path}")
        return Response("read only\n", 405)
