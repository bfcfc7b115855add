"""The first thing that a child of Beacon runs: `python -c` with this text.

Standard input is a socket to Beacon. It is moved out of the way of the application, and the first frame on it brings
the options and the sources of the package `beacon_worker`, which is imported from memory: nothing is installed and
nothing lies on the disk. Frames: see src/tasks/python/frame.rs.
"""
import fcntl
import importlib.abc
import importlib.util
import json
import os
import socket
import struct
import sys


class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports `beacon_worker` and what is in it from the texts that Beacon sent."""

    def __init__(self, texts):
        self.texts = texts

    def find_spec(self, name, path=None, target=None):
        if name not in self.texts:
            return None
        return importlib.util.spec_from_loader(name, self, origin='<beacon>/%s.py' % name.replace('.', '/'),
                                               is_package=self.is_package(name))

    def is_package(self, name):
        return name == 'beacon_worker'

    def get_source(self, name):
        return self.texts[name]

    def get_code(self, name):
        # A name of its own for each file: tracebacks find the text through __loader__.
        return compile(self.texts[name], '<beacon>/%s.py' % name.replace('.', '/'), 'exec', dont_inherit=True)


def exactly(sock, count):
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 20))
        if not part:
            # Beacon has gone before it said anything.
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b''.join(parts)


def start():
    # High, so that a program that closes or counts the low ones does not meet it.
    sock = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 64))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    head, body = struct.unpack('>II', exactly(sock, 8))
    options = json.loads(exactly(sock, head))
    sys.meta_path.insert(0, Sources(json.loads(exactly(sock, body))))
    from beacon_worker import main
    main.run(sock, options)


start()
