"""A server of the standard library, for flows to call: JSON, gzip, chunks, redirects, cookies and tokens.

Says on which port it listens, and then each request that it gets, a line each. With --cert it speaks TLS, and with
--clients it wants a certificate of that authority.
"""

import argparse
import base64
import gzip
import json
import ssl
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

arguments = argparse.ArgumentParser()
arguments.add_argument("--cert")
arguments.add_argument("--key")
arguments.add_argument("--clients")
arguments.add_argument("--lifetime", type=int, default=3600)
arguments = arguments.parse_args()
tokens = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, status=200, compressed=False, **headers):
        body = json.dumps(value).encode()
        if compressed:
            body = gzip.compress(body)
            headers["content-encoding"] = "gzip"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def chunks(self):
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for part in [b'{"in":', b'["', b"many" * 1000, b'"', b"]}"]:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        # In one piece, since threads write at the same time.
        print(f"asked {self.command} {self.path}\n", end="", flush=True)
        match self.path:
            case "/json":
                self.answer({"version": self.request_version})
            case "/gzip":
                self.answer({"zipped": "zip" * 1000}, compressed=True)
            case "/chunks":
                self.chunks()
            case "/redirect":
                self.answer("elsewhere", 302, location="/json")
            case "/cookie":
                self.answer({"cookie": self.headers.get("cookie")}, set_cookie="session=m4rker")
            case "/echo":
                self.answer({"method": self.command, "body": json.loads(body)})
            case "/token":
                self.token(dict(urllib.parse.parse_qsl(body.decode())))
            case "/guarded":
                known = tokens and self.headers.get("authorization") == "Bearer " + tokens[-1]
                self.answer({"token": len(tokens)} if known else "who?", 200 if known else 401)
            case _:
                self.answer("nothing here", 404)

    do_GET = do_POST = handle_request

    def token(self, form):
        known = "Basic " + base64.b64encode(b"client:m4rker-secret").decode()
        if self.headers.get("authorization") != known or form.get("grant_type") != "client_credentials":
            return self.answer({"error": "invalid_client"}, 401)
        tokens.append("m4rker-token-%d" % len(tokens))
        self.answer({"access_token": tokens[-1], "token_type": "Bearer", "expires_in": arguments.lifetime})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if arguments.cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.cert, arguments.key)
    if arguments.clients:
        context.load_verify_locations(arguments.clients)
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("listening", server.server_port, flush=True)
server.serve_forever()
