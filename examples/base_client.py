#!/usr/bin/env python3
"""A client of Syncline's base protocol in plain Python, and a program that uses it.

    python3 examples/base_client.py 127.0.0.1:6660
    python3 examples/base_client.py synclines://localhost:6660 certs/ca.pem

`Client` contains everything that a program in another language needs. docs/protocol.md describes the protocol.
"""

import socket
import ssl
import struct
import sys

GET, PUT, ERROR, AUTH = range(4)


class Client:
    """A connection. Responses are in the order of requests; broadcasts (tag 0) may arrive between them."""

    def __init__(self, host, port, tls=None):
        self.socket = socket.create_connection((host, port), timeout=60)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)
        self.stream = self.socket.makefile("rb")
        self.broadcasts = []
        self.tag = 0

    def get(self, key):
        """Returns the value and version of a key, or None."""
        kind, *rest = self.request(struct.pack("<H", len(key)) + key, GET)
        if kind == ERROR and rest[0].endswith(b"not found"):
            return None
        assert kind == PUT, rest
        return rest[1], rest[2]

    def put(self, key, value, version):
        """Returns whether the server accepted the write: `version` must be the current version plus 1."""
        body = struct.pack("<H", len(key)) + key + struct.pack("<H", len(value)) + value + struct.pack("<Q", version)
        kind, *rest = self.request(body, PUT)
        if kind == ERROR and rest[0] == b"stale put":
            return False
        assert (kind, *rest) == (PUT, key, value, version), rest
        return True

    def next_broadcast(self):
        """Waits for a write of another connection, and returns its key, value and version."""
        while not self.broadcasts:
            tag, message = self.receive()
            assert tag == 0, message
            self.broadcasts.append(message)
        return self.broadcasts.pop(0)[1:]

    def request(self, body, kind):
        self.tag = self.tag % 65535 + 1
        self.socket.sendall(struct.pack("<BH", kind, self.tag) + body)
        while True:
            tag, message = self.receive()
            if tag == self.tag:
                return message
            assert tag == 0, message
            self.broadcasts.append(message)

    def receive(self):
        kind, tag = struct.unpack("<BH", self.exactly(3))
        if kind == PUT:
            return tag, (PUT, self.string(), self.string(), struct.unpack("<Q", self.exactly(8))[0])
        assert kind in (ERROR, AUTH), kind
        return tag, (kind, self.string())

    def string(self):
        return self.exactly(struct.unpack("<H", self.exactly(2))[0])

    def exactly(self, count):
        received = self.stream.read(count)
        assert len(received) == count, "the server has closed the connection"
        return received


def main(address, ca=None):
    tls = ssl.create_default_context(cafile=ca) if address.startswith("synclines://") else None
    host, port = address.split("://")[-1].rsplit(":", 1)
    writer, watcher = Client(host, int(port), tls), Client(host, int(port), tls)

    assert watcher.get(b"language") is None
    assert writer.put(b"language", b"", 1)
    print("put a new key at version 1")
    assert not writer.put(b"language", b"too late", 1)
    print("put it at version 1 again: stale, as expected")
    assert writer.put(b"language", b"python", 2)
    assert writer.get(b"language") == (b"python", 2)
    print("put it at version 2, and read it")
    assert watcher.next_broadcast() == (b"language", b"", 1)
    assert watcher.next_broadcast() == (b"language", b"python", 2)
    print("another connection received both, in order")

    # The worked example of docs/protocol.md, byte for byte.
    raw = Client(host, int(port), tls).socket
    example = bytes.fromhex("01 0700 0400 6e616d65 0400 746f6e79 0100000000000000")
    raw.sendall(example)
    assert raw.makefile("rb").read(len(example)) == example
    print("the response to the worked example is the same frame")
    print("everything is as the protocol requires")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["127.0.0.1:6660"]))
