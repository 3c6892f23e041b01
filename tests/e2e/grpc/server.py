"""A gRPC server whose messages are bytes. Prints what it sees, one JSON object to a line."""

import json
import sys
import threading
import time
from concurrent import futures

import grpc

address, plain_port, tls_port, certificate, key = sys.argv[1:]
lock = threading.Lock()


def say(event, **fields):
    with lock:
        print(json.dumps({"event": event, "at": time.time(), **fields}), flush=True)


def metadata(context):
    return {name: value for name, value in context.invocation_metadata()}


def unary(request, context):
    told = metadata(context)
    context.send_initial_metadata((("x-initial", told.get("x-ask", "")),))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-ask-bin", told.get("x-ask-bin", b""))))
    return request


def collect(requests, context):
    count = total = 0
    for message in requests:
        count += 1
        total += len(message)
        if count == 1:
            say("first")
    return json.dumps([count, total]).encode()


def spread(request, context):
    count, size = json.loads(request)
    for number in range(count):
        yield number.to_bytes(4, "big") + bytes(size)


def chat(requests, context):
    for message in requests:
        yield message
    context.set_trailing_metadata((("x-trailing", "last"),))


def fail(request, context):
    context.set_trailing_metadata((("x-why", "gone"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100%")


def wait(request, context):
    """Says something, and then nothing until the client is gone."""
    ended = threading.Event()

    # Not behind the `yield`: who is gone before the library asks for a second message is not come back to.
    def end():
        say("ended")
        ended.set()

    left = context.time_remaining()
    say("waits", left=left if left is not None and left < 1e6 else None)
    if not context.add_callback(end):
        end()
    yield b"began"
    ended.wait(30)


unary_methods = {"Unary": unary, "Fail": fail}
handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in unary_methods.items()}
handlers["Collect"] = grpc.stream_unary_rpc_method_handler(collect)
handlers["Spread"] = grpc.unary_stream_rpc_method_handler(spread)
handlers["Wait"] = grpc.unary_stream_rpc_method_handler(wait)
handlers["Chat"] = grpc.stream_stream_rpc_method_handler(chat)

options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
with open(key, "rb") as private, open(certificate, "rb") as public:
    credentials = grpc.ssl_server_credentials([(private.read(), public.read())])
server.add_insecure_port(f"{address}:{plain_port}")
server.add_secure_port(f"{address}:{tls_port}", credentials)
server.start()
say("ready")
server.wait_for_termination()
