"""Python's urllib: what it asks, what it is answered, and a large answer."""

import hashlib
import urllib.error
import urllib.request


def tell(path, data=None):
    request = urllib.request.Request(f"https://api.test{path}", data=data, headers={"X-Client": "a,  b"})
    try:
        response = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        response = error
    print(response.status, response.reason, response.getheaders(), response.read().decode())


tell("/seen?of=urllib&empty=")
tell("/missing")
tell("/cookies")
tell("/elsewhere")
tell("/form", bytes(range(256)) * 1000)
# Of no known length: chunks.
tell("/stream", (bytes([number]) * 3000 for number in range(100)))
with urllib.request.urlopen("https://api.test/large", timeout=20) as answer:
    large = answer.read()
print(len(large), hashlib.sha256(large).hexdigest())
