"""requests: a session with cookies, what it asks and is answered, and a large answer in pieces."""

import hashlib

import requests

session = requests.Session()


def tell(method, path, **options):
    answer = session.request(method, f"https://api.test{path}", timeout=20, **options)
    print(answer.status_code, answer.reason, list(answer.headers.items()), answer.text)


tell("GET", "/seen?of=requests&empty=", headers={"X-Client": "a,  b"})
tell("GET", "/missing")
tell("GET", "/cookies")
tell("GET", "/elsewhere")
tell("POST", "/json", json={"a": [1, "zwei ü"]})
tell("PUT", "/stream", data=(bytes([number]) * 3000 for number in range(100)))
tell("DELETE", "/seen/1")
large = hashlib.sha256()
length = 0
with session.get("https://api.test/large", stream=True, timeout=20) as answer:
    for piece in answer.iter_content(10_000):
        large.update(piece)
        length += len(piece)
print(length, large.hexdigest())
