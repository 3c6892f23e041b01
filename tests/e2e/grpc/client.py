"""What the scripts of the tests begin with: gRPC calls whose messages are bytes."""

import hashlib
import json
import queue
import sys
import time

import grpc

target, security = sys.argv[1:3]
options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
if security == "tls":
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
else:
    channel = grpc.insecure_channel(target, options)
TIMEOUT = 30


def method(kind, name):
    return getattr(channel, kind)(f"/test.Echo/{name}")


def say(value):
    print(json.dumps(value), flush=True)


def listed(metadata):
    """Metadata of the test's own, with bytes as hex."""
    return {
        name: value.hex() if isinstance(value, bytes) else value for name, value in metadata if name.startswith("x-")
    }


def status(call):
    return [call.code().name, call.details()]


def failure(function):
    try:
        function()
        return "no failure"
    except grpc.RpcError as error:
        return [*status(error), listed(error.trailing_metadata())]


def numbered(count, size):
    return (number.to_bytes(4, "big") + bytes(size) for number in range(count))
