"""A server that means harm, each time in the way that the path asks for.

Says on which port it listens, and then each request that it gets, a line each. The folder that is given holds `bomb.gzip`,
`bomb.br` and `bomb.zstd`.
"""

import pathlib
import random
import socket
import struct
import sys
import threading
import time

FOLDER = pathlib.Path(sys.argv[1])
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


def drip(connection):
    connection.sendall(OK + b"content-length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.01)


def drip_head(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        connection.sendall(b"a")
        time.sleep(0.01)


def silent(connection):
    while connection.recv(4096):
        pass


def reset(connection):
    connection.sendall(OK + b'content-length: 100\r\n\r\n{"half":')
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def fewer(connection):
    connection.sendall(OK + b"content-length: 100\r\n\r\n[1,2")


def more(connection):
    connection.sendall(OK + b"content-length: 4\r\n\r\ntrueHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\"m4rker\"")
    silent(connection)


def loop(connection):
    connection.sendall(b"HTTP/1.1 302 Found\r\nlocation: /loop\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def garbage(connection):
    connection.sendall(b"m4rker" + random.Random(1).randbytes(1 << 16))


def long_header(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        connection.sendall(b"m4rker" * 10000)


def many_headers(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x: m4rker\r\n" * 10000)


def endless(connection):
    connection.sendall(OK + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def chunk_of_all(connection):
    connection.sendall(OK + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n")
    while True:
        connection.sendall(b" " * 0x10000)


def bomb(encoding):
    def send(connection):
        body = (FOLDER / f"bomb.{encoding}").read_bytes()
        head = b"content-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (encoding.encode(), len(body))
        connection.sendall(OK + head + body)

    return send


WAYS = {way.__name__: way for way in [drip, drip_head, silent, reset, fewer, more, loop, garbage, long_header, many_headers]}
WAYS |= {"endless": endless, "chunk_of_all": chunk_of_all}
WAYS |= {"gzip": bomb("gzip"), "br": bomb("br"), "zstd": bomb("zstd")}


def serve(connection):
    with connection:
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(4096)
                if not part:
                    return
                head += part
            path = head.split(b" ")[1].decode()
            # In one piece, since threads write at the same time.
            print(f"asked {path}\n", end="", flush=True)
            WAYS[path[1:]](connection)
        except OSError:
            pass  # The other side is gone.


listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print("listening", listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
