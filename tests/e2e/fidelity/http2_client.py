import json
import socket
import ssl
import sys

address, port, authority, what = sys.argv[1:]


def ask(message):
    """One request on a connection of its own, and what is answered."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(socket.create_connection((address, int(port)), 20), server_hostname="api.test") as io:
        io.settimeout(20)
        http, seen = connection(client_side=True), Seen()
        io.sendall(http.data_to_send())
        # So that the peer's limits are known.
        http.receive_data(io.recv(65536))
        send(http, 1, message)
        io.sendall(http.data_to_send())
        while not seen.is_over:
            data = io.recv(65536)
            assert data, seen.message
            for event in http.receive_data(data):
                if getattr(event, "stream_id", None) == 1:
                    seen.take(http, event)
            io.sendall(http.data_to_send())
        return seen.message


if what == "requests":
    said = {name: ask(message) for name, message in REQUESTS.items()}
else:
    said = {path: ask([("headers", head(path))]) for path in ANSWERS}
    said.update({path: ask([("headers", head(path, method="HEAD"))]) for path in HEADS})
print(json.dumps(said))
