"""A client of sluicegate's control socket: start instances, change them while they run, answer what they ask.

    from sluicegate import Sandbox

    with Sandbox.attach("/run/netns/box", "box", policy="sluicegate.toml") as sandbox:
        sandbox.set_outbound_handler("allow_hosts", {"hosts": ["git.example.test"]})
        ...
        sandbox.set_outbound_handler("no_http")

Only the standard library is needed. What the routes say and want is in docs/control.md; every one of them is
in ROUTES, which a test compares with the gate's own OpenAPI document.
"""

import hashlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
from urllib.parse import quote, urlencode

__all__ = ["Refused", "Sandbox", "ROUTES"]

#: Each operation with its method and path; the parts in braces are percent-encoded.
ROUTES = {
    "status": ("GET", "/v1/status"),
    "ca": ("GET", "/v1/ca"),
    "events": ("GET", "/v1/events"),
    "openapi": ("GET", "/v1/openapi.json"),
    "policy": ("GET", "/v1/policy"),
    "set_policy": ("PUT", "/v1/policy"),
    "reset_policy": ("DELETE", "/v1/policy"),
    "put_component": ("PUT", "/v1/components/{sha256}"),
    "test": ("POST", "/v1/policy/test"),
    "handlers": ("GET", "/v1/handlers"),
    "set_outbound_handler": ("PUT", "/v1/outbound"),
    "remove_outbound_handler": ("DELETE", "/v1/outbound"),
    "set_outbound_by_hosts": ("PUT", "/v1/outbound-by-host"),
    "set_outbound_by_host": ("PUT", "/v1/outbound-by-host/{pattern}"),
    "remove_outbound_by_host": ("DELETE", "/v1/outbound-by-host/{pattern}"),
    "set_allowed_hosts": ("PUT", "/v1/allowed-hosts"),
    "allow_host": ("PUT", "/v1/allowed-hosts/{pattern}"),
    "remove_allowed_host": ("DELETE", "/v1/allowed-hosts/{pattern}"),
    "set_denied_hosts": ("PUT", "/v1/denied-hosts"),
    "deny_host": ("PUT", "/v1/denied-hosts/{pattern}"),
    "remove_denied_host": ("DELETE", "/v1/denied-hosts/{pattern}"),
    "reset_overrides": ("DELETE", "/v1/overrides"),
    "approvals": ("GET", "/v1/approvals"),
    "answer": ("POST", "/v1/approvals/{id}"),
    "remembered": ("GET", "/v1/approvals/remembered"),
    "forget": ("DELETE", "/v1/approvals/remembered/{id}"),
    "keys": ("GET", "/v1/bindings/{name}"),
    "get": ("GET", "/v1/bindings/{name}/{key}"),
    "put": ("PUT", "/v1/bindings/{name}/{key}"),
    "delete": ("DELETE", "/v1/bindings/{name}/{key}"),
}

#: How long an answer may take, in seconds; the gate itself takes a minute at most.
TIMEOUT = 70


class Refused(Exception):
    """The gate did not do it; nothing has changed.

    status: the HTTP status. type: such as `sluicegate:policy-refused`. problem: all that the gate said.
    """

    def __init__(self, status, problem):
        super().__init__(problem.get("rendered") or problem.get("detail") or problem.get("title") or str(status))
        self.status = status
        self.type = problem.get("type")
        self.problem = problem


class _Connection(http.client.HTTPConnection):
    """HTTP on a UNIX socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Sandbox:
    """A running instance, by its control socket."""

    def __init__(self, path, process=None):
        """`path` is the socket's file. `process` ends with the sandbox."""
        self.path = os.fspath(path)
        self._process = process

    @classmethod
    def named(cls, name):
        """The instance of this name, which this user has started."""
        return cls(_socket_of(name))

    @classmethod
    def attach(cls, target, name, *, policy=None, program="sluicegate", flags=()):
        """Seals a namespace, such as `/run/netns/NAME` or `pid:N`, with a new instance.

        Returns once nothing leaves the namespace any more but by the gate. `flags` are further ones of
        `sluicegate attach`. The instance ends with `close`, and its rules stay: then nothing leaves at all.
        """
        line = [program, "attach", target, "--name", name, "--json", *flags]
        if policy is not None:
            line += ["--policy", os.fspath(policy)]
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"sluicegate attach ended with {process.wait()}: see its message")
        process.stdout.close()
        return cls(json.loads(said)["control"], process)

    def close(self):
        """Ends the instance, if it was started here."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # The instance

    def status(self):
        return self._json("status")

    def ca(self):
        """The certificate that the workload is to trust, PEM."""
        return self._send("ca").decode()

    def openapi(self):
        return self._json("openapi")

    def events(self):
        """What happens from now on, as it happens: each event as a dictionary, without end."""
        return self._follow(*self._open("events", timeout=None))

    @staticmethod
    def _follow(connection, response):
        try:
            for line in response:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        finally:
            connection.close()

    # The policy

    def policy(self):
        return self._json("policy")

    def set_policy(self, document, *, file, scripts=None, components=None):
        """Puts a document in force. `scripts` has the texts of its handlers by path, `components` the SHA-256
        of theirs, which `put_component` gives. `file` is where its other relative paths begin."""
        body = {"document": document, "file": os.fspath(file)}
        body.update({key: value for key, value in (("scripts", scripts), ("components", components)) if value})
        return self._json("set_policy", body)

    def put_component(self, content):
        """Sends a component for the next policy, and returns its SHA-256. The gate keeps it ten minutes."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._send("put_component", bytes(content), sha256=sha256)
        return sha256

    def reset_policy(self):
        return self._json("reset_policy")

    def test(self, method, url, **more):
        """Judges a request that is not made."""
        return self._json("test", {"method": method, "url": url, **more})

    def handlers(self):
        return self._json("handlers")

    # Changes at run time

    def set_outbound_handler(self, name, params=None):
        return self._json("set_outbound_handler", _handler(name, params))

    def remove_outbound_handler(self):
        return self._json("remove_outbound_handler")

    def set_outbound_by_host(self, host, name, params=None):
        return self._json("set_outbound_by_host", _handler(name, params), pattern=host)

    def set_outbound_by_hosts(self, handlers):
        """All at once: names by host, or pairs of a name and its parameters. None takes all away."""
        pairs = ((host, (each, None) if isinstance(each, str) else each) for host, each in handlers.items())
        return self._json("set_outbound_by_hosts", {host: _handler(*pair) for host, pair in pairs})

    def remove_outbound_by_host(self, host):
        return self._json("remove_outbound_by_host", pattern=host)

    def set_allowed_hosts(self, hosts):
        return self._json("set_allowed_hosts", {"patterns": list(hosts)})

    def allow_host(self, host):
        return self._json("allow_host", pattern=host)

    def remove_allowed_host(self, host):
        return self._json("remove_allowed_host", pattern=host)

    def set_denied_hosts(self, hosts):
        return self._json("set_denied_hosts", {"patterns": list(hosts)})

    def deny_host(self, host):
        return self._json("deny_host", pattern=host)

    def remove_denied_host(self, host):
        return self._json("remove_denied_host", pattern=host)

    def reset_overrides(self):
        return self._json("reset_overrides")

    # Asking a person

    def approvals(self):
        """What waits for an answer, oldest first."""
        return self._json("approvals")["pending"]

    def answer(self, id, allow, *, remember_seconds=None, always=False):
        body = {"allow": allow}
        if remember_seconds is not None:
            body["remember_seconds"] = remember_seconds
        if always:
            body["always"] = True
        return self._json("answer", body, id=id)

    def remembered(self):
        return self._json("remembered")

    def forget(self, id):
        return self._json("forget", id=id)

    # Key-value stores

    def keys(self, name, prefix=""):
        return self._json("keys", query={"prefix": prefix} if prefix else None, name=name)["keys"]

    def get(self, name, key):
        """The bytes of a value; None where there is none."""
        try:
            return self._send("get", name=name, key=key)
        except Refused as refused:
            if refused.status == 404 and refused.type == "sluicegate:not-found":
                return None
            raise

    def put(self, name, key, value, *, ttl_seconds=None):
        query = {"ttl_seconds": ttl_seconds} if ttl_seconds is not None else None
        self._send("put", value if isinstance(value, bytes) else value.encode(), query, name=name, key=key)

    def delete(self, name, key):
        self._send("delete", name=name, key=key)

    # On the wire

    def _json(self, operation, body=None, query=None, **parts):
        answer = self._send(operation, body, query, **parts)
        return json.loads(answer) if answer else None

    def _send(self, operation, body=None, query=None, **parts):
        connection, response = self._open(operation, body, query, **parts)
        try:
            return response.read()
        finally:
            connection.close()

    def _open(self, operation, body=None, query=None, timeout=TIMEOUT, **parts):
        method, path = ROUTES[operation]
        path = path.format(**{name: quote(part, safe="") for name, part in parts.items()})
        if query:
            path += "?" + urlencode(query)
        headers = {}
        if isinstance(body, bytes):
            headers["content-type"] = "application/octet-stream"
        elif body is not None:
            headers["content-type"] = "application/json"
            body = json.dumps(body).encode()
        connection = _Connection(self.path, timeout)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            if response.status >= 300:
                raise Refused(response.status, _problem(response.read()))
        except BaseException:
            connection.close()
            raise
        return connection, response


def _handler(name, params):
    return {"handler": name} if params is None else {"handler": name, "params": params}


def _problem(body):
    try:
        return json.loads(body)
    except ValueError:
        return {"detail": body.decode(errors="replace")}


def _socket_of(name):
    """Where the gate made its socket: see docs/control.md."""
    user = os.geteuid()
    folders = [os.environ.get("XDG_RUNTIME_DIR"), "/run" if user == 0 else f"/run/user/{user}"]
    sockets = [os.path.join(folder, "sluicegate", name + ".sock") for folder in folders if folder]
    sockets.append(os.path.join(tempfile.gettempdir(), f"sluicegate-{user}", name + ".sock"))
    return next((path for path in sockets if os.path.exists(path)), sockets[0])
