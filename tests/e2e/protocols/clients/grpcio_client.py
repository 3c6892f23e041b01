

# All four kinds of calls, metadata both ways, an error with its trailers, and a method that is not there.
asked = (("x-ask", "one"), ("x-ask-bin", bytes([0, 255, 10])))
answer, call = method("unary_unary", "Unary").with_call(b"hello", timeout=TIMEOUT, metadata=asked)
say([answer.decode(), listed(call.initial_metadata()), listed(call.trailing_metadata()), *status(call)])
large = bytes(range(256)) * 16384
for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
    answer = method("unary_unary", "Unary")(large, timeout=TIMEOUT, compression=compression)
    say([len(answer), hashlib.sha256(answer).hexdigest()])
say(json.loads(method("stream_unary", "Collect")(numbered(300, 1020), timeout=TIMEOUT)))
spread = method("unary_stream", "Spread")(b"[300, 1020]", timeout=TIMEOUT)
say(hashlib.sha256(b"".join(spread)).hexdigest())
chat = method("stream_stream", "Chat")(numbered(300, 1020), timeout=TIMEOUT)
say([hashlib.sha256(b"".join(chat)).hexdigest(), status(chat), listed(chat.trailing_metadata())])
say(failure(lambda: method("unary_unary", "Missing")(b"", timeout=TIMEOUT)))
say(failure(lambda: method("unary_unary", "Fail")(b"", timeout=TIMEOUT)))
