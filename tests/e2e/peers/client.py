"""A client of the standard library: keeps its connection, sends chunks, and is refused with a large body.

Given the port of a worker; prints what it was answered, as JSON.
"""

import http.client
import json
import sys

LARGE = 4 << 20


def read(response):
    text = response.read()
    return response.status, json.loads(text) if text else None


connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=240)
answers = {"kept": []}
sockets = set()
for n in range(20):
    connection.request("POST", "/echo", json.dumps({"n": n}), {"content-type": "application/json"})
    sockets.add(connection.sock.getsockname())
    answers["kept"].append(read(connection.getresponse()))
parts = (part.encode() for part in ["[1", ",2" * 1000, "]"])
connection.request("POST", "/echo", parts, {"content-type": "application/json"}, encode_chunked=True)
status, echo = read(connection.getresponse())
answers["chunks"] = [status, len(echo)]
answers["sockets"] = len(sockets)
# It sends all of a body before it looks for the answer.
for path in ["/echo", "/locked", "/nowhere"]:
    connection.request("POST", path, b"a" * LARGE)
    answers[path] = read(connection.getresponse())[1]["status"]
connection.request("POST", "/locked", (b"a" * 65536 for _ in range(LARGE // 65536)), encode_chunked=True)
answers["locked_chunks"] = read(connection.getresponse())[1]["status"]
print(json.dumps(answers))
