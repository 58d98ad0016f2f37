"""Listens on the ports that its arguments name, and answers every request that it has no such page."""

import selectors
import socket
import sys

ANSWER = b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
REQUEST_BYTES = 65536


def main() -> None:
    """Serve until killed, one request at a time."""
    waiting = selectors.DefaultSelector()
    for port in sys.argv[1:]:
        # Without SO_REUSEADDR, which create_server sets: gVisor lets two who set it share a port.
        taken = socket.socket()
        taken.bind(("0.0.0.0", int(port)))
        taken.listen()
        waiting.register(taken, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            peer, _ = listener.accept()
            with peer:
                try:
                    peer.settimeout(1)
                    peer.recv(REQUEST_BYTES)
                    peer.sendall(ANSWER)
                except OSError:
                    pass


main()
