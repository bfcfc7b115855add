"""What benches/edge.sh needs and a shell does badly. Loopback only; no packages beside Python's own."""

import asyncio
import json
import random
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import time

# The measurement is of speed and memory; edge.sh has made the certificate a moment ago.
TLS = ssl.create_default_context()
TLS.check_hostname = False
TLS.verify_mode = ssl.CERT_NONE


def executable(name):
    """Prints the path of an executable from cargo's JSON messages on standard input."""
    # Read to the end: cargo fails when its reader goes away.
    messages = [json.loads(line) for line in sys.stdin]
    for message in messages:
        if message.get("executable") and message["target"]["name"] == name:
            print(message["executable"])
            return
    sys.exit(f"cargo made no executable called {name}")


def text(length):
    """Prints text of a length in bytes, the same each time."""
    letters = random.Random(length)
    print("".join(letters.choices("etaoin shrdlu\n", k=int(length))), end="")


def ports(count):
    """Prints ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(count))]
    print(*(each.getsockname()[1] for each in sockets))


def answers(port):
    """Whether an HTTPS request is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=5) as plain:
            with TLS.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(b"GET /1k.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return b" 200 " in secure.recv(64)
    except OSError:
        return False


def wait(port):
    """Waits for an answer, at most 20 seconds."""
    end = time.monotonic() + 20
    while not answers(port):
        if time.monotonic() > end:
            sys.exit("no answer within 20 seconds")
        time.sleep(0.001)


def ready(port, log, *command):
    """Prints the milliseconds from exec to the first answer, and stops what it started."""
    with open(log, "ab") as out:
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            wait(port)
            print(round((time.monotonic() - start) * 1000, 1))
        finally:
            child.terminate()
            child.wait(20)


def hold(port, count):
    """Opens TLS connections, says "held", and keeps them until standard input ends."""
    wanted = int(count) + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    TLS.set_alpn_protocols(["http/1.1"])

    async def run():
        turn = asyncio.Semaphore(50)

        async def open_one():
            async with turn:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", int(port), ssl=TLS, server_hostname="localhost"
                )
                # A request each, so that what is measured is a connection in use and not half a handshake.
                writer.write(b"GET /1k.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 200 " in head, head
                await reader.readexactly(1024)
                return reader, writer

        held = await asyncio.gather(*(open_one() for _ in range(int(count))))
        open_now = sum(not reader.at_eof() for reader, _ in held)
        assert open_now == int(count), f"{open_now} are open"
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(run())


def table():
    """Prints a Markdown table from lines of row, server and value on standard input."""
    rows = {}
    for line in sys.stdin:
        row, server, value = line.rstrip("\n").split("\t")
        rows.setdefault(row, {}).setdefault(server, []).append(float(value))

    def shown(values):
        if not values:
            return "–"
        middle = statistics.median(values)
        return f"{middle:,.0f}" if middle >= 100 else f"{middle:,.1f}"

    print("| | Beacon | NGINX | ratio | of the rounds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row, servers in rows.items():
        beacon, nginx = servers.get("beacon", []), servers.get("nginx", [])
        ratios = [ours / theirs for ours, theirs in zip(beacon, nginx)]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "–"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "–"
        print(f"| {row} | {shown(beacon)} | {shown(nginx)} | {ratio} | {spread} |")


if __name__ == "__main__":
    jobs = {job.__name__: job for job in (executable, text, ports, wait, ready, hold, table)}
    jobs[sys.argv[1]](*sys.argv[2:])
