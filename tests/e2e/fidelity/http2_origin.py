import json
import socket
import ssl
import sys
import threading

address, plain_port, tls_port, certificate, key = sys.argv[1:]
lock = threading.Lock()
answers = {**ANSWERS, **HEADS}


def say(**fields):
    with lock:
        print(json.dumps(fields), flush=True)


def serve(raw):
    io = context.wrap_socket(raw, server_side=True)
    http, streams = connection(client_side=False), {}
    io.sendall(http.data_to_send())
    while data := io.recv(65536):
        for event in http.receive_data(data):
            stream = getattr(event, "stream_id", None)
            if not stream or isinstance(event, (h2.events.WindowUpdated, h2.events.PriorityUpdated)):
                continue
            seen = streams.setdefault(stream, Seen())
            was_over = seen.is_over
            seen.take(http, event)
            if seen.is_over and not was_over:
                say(event="request", message=seen.message)
                if seen.message[-1][0] != "reset":
                    path = dict(encoded([field[:2] for field in seen.message[0][1]]))[b":path"].decode("latin-1")
                    send(http, stream, answers.get(path, [answer(200)]))
        io.sendall(http.data_to_send())


def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["h2"])
listener = socket.create_server((address, int(tls_port)))
say(event="ready")
accept(listener)
