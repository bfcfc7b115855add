"""Frames to and from Beacon over one socket.

A frame is two big-endian lengths of four bytes, a JSON object, and bytes. Only the main thread reads. Whoever writes
holds the lock, so that frames of coroutines' threads do not mix.
"""
import json
import socket
import struct
import threading
from collections import deque

_LENGTHS = struct.Struct('>II')
_encode = json.JSONEncoder(separators=(',', ':'), ensure_ascii=True, default=repr).encode
_decode = json.loads


class Closed(Exception):
    """Beacon has gone."""


class Channel:
    """The socket, and what has been read from it."""

    def __init__(self, sock):
        self._socket = sock
        self._unread = bytearray()
        self._lock = threading.Lock()
        #: Whole frames that nobody has taken: (head, body).
        self.frames = deque()
        #: True while the main thread reads or takes frames; a signal's handler must not do it then.
        self.reading = True

    def fileno(self):
        return self._socket.fileno()

    def forget(self):
        """In a process that the application forked: closes the copy, so that the end of this one is seen."""
        self._socket.close()

    def take(self):
        """The next frame; waits for it."""
        while not self.frames:
            data = self._socket.recv(1 << 18)
            if not data:
                raise Closed
            self._add(data)
        return self.frames.popleft()

    def look(self):
        """Reads what has come, without waiting."""
        while True:
            try:
                data = self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if not data:
                raise Closed
            self._add(data)

    def _add(self, data):
        unread = self._unread
        unread += data
        start, have = 0, len(unread)
        while have - start >= 8:
            head, body = _LENGTHS.unpack_from(unread, start)
            end = start + 8 + head + body
            if end > have:
                break
            middle = start + 8 + head
            self.frames.append((_decode(bytes(unread[start + 8:middle])), bytes(unread[middle:end])))
            start = end
        if start:
            del unread[:start]

    def send(self, head, body=b''):
        """Writes a frame."""
        text = _encode(head).encode()
        data = _LENGTHS.pack(len(text), len(body)) + text
        if len(body) < 1 << 16:
            data += body
            body = b''
        with self._lock:
            self._socket.sendall(data)
            if body:
                self._socket.sendall(body)
