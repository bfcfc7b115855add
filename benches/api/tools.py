"""What benches/api.sh needs and a shell does badly. Loopback only; no packages beside Python's own."""

import base64
import hashlib
import hmac
import json
import os
import random
import socket
import sqlite3
import statistics
import string
import sys
import time
import urllib.error
import urllib.request

PERSON = "00000000-0000-4000-8000-000000000001"


def executable(name):
    """Prints the path of an executable from cargo's JSON messages on standard input."""
    messages = [json.loads(line) for line in sys.stdin]
    for message in messages:
        if message.get("executable") and message["target"]["name"] == name:
            print(message["executable"])
            return
    sys.exit(f"cargo made no executable called {name}")


def ports(count):
    """Prints ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(count))]
    print(*(each.getsockname()[1] for each in sockets))


def token(secret):
    """Prints a token (HS256) of the first person, good for an hour."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    now = int(time.time())
    claims = {"sub": PERSON, "role": "authenticated", "aud": "authenticated", "iat": now, "exp": now + 3600}
    text = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    mac = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    print((text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode())


def bodies(folder):
    """Writes the bodies that are posted."""
    one = {"title": "an entry", "amount": 12.5}
    many = [{"title": f"entry {n}", "amount": n} for n in range(1000)]
    batch = {"requests": [{"method": "POST", "url": "/api/collections/entries/records", "body": row} for row in many]}
    for name, body in (("one", one), ("many", many), ("batch", batch)):
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(body, file)


def call(method, url, body=None, bearer=None):
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if bearer:
        headers["Authorization"] = "Bearer " + bearer
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
        text = answer.read().decode()
        return answer.status, text


def expect(url, bearer, path, kind, form="%d"):
    """Asks once, and ends the run unless the answer is the one that everybody must give."""
    number = 7
    text = call("GET", url + path.replace("{id}", form % number), bearer=bearer)[1]
    answer = json.loads(text)
    if isinstance(answer, dict) and "items" in answer:
        answer = answer["items"]
    if kind == "list":
        fine = len(answer) == 20 and all("title" in row for row in answer)
    else:
        row = answer[0] if isinstance(answer, list) and answer else answer
        books = row.get("books", row.get("expand", {}).get("books_via_author", []))
        fine = row.get("title") == "note 7" if kind == "single" else len(books) == 10
    if not fine:
        sys.exit(f"{url}{path} gives something else: {text[:300]}")


def ready(url):
    """Waits until something answers, at most 30 seconds."""
    end = time.monotonic() + 30
    while True:
        try:
            call("GET", url)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"{url} does not answer")
            time.sleep(0.05)


def pocketbase(url, email, password, folder):
    """Makes the collections and prints a token of the first person. Fill the rows in with `rows` while it is stopped."""
    bearer = json.loads(call("POST", url + "/api/collections/_superusers/auth-with-password", {"identity": email, "password": password})[1])["token"]
    call("PATCH", url + "/api/settings", {"batch": {"enabled": True, "maxRequests": 1000, "timeout": 60, "maxBodySize": 0}, "rateLimits": {"enabled": False}, "logs": {"maxDays": 0}}, bearer)
    people = {"name": "people", "type": "auth", "fields": [], "listRule": None}
    call("POST", url + "/api/collections", people, bearer)

    def text(name):
        return {"name": name, "type": "text", "required": True}

    identifier = {"name": "id", "type": "text", "primaryKey": True, "required": True, "pattern": "^[a-z0-9]+$", "min": 15, "max": 15, "system": True, "autogeneratePattern": "[a-z0-9]{15}"}
    mine = "owner = @request.auth.id"
    made = [
        {"name": "notes", "fields": [identifier, text("owner"), text("title"), text("body"), {"name": "made", "type": "date"}], "listRule": mine, "viewRule": mine, "indexes": ["CREATE INDEX notes_owner ON notes (owner, made DESC)"]},
        {"name": "authors", "fields": [identifier, text("name")], "listRule": "", "viewRule": ""},
        {"name": "entries", "fields": [identifier, text("title"), {"name": "amount", "type": "number"}, {"name": "made", "type": "autodate", "onCreate": True}], "createRule": "@request.auth.id != ''"},
    ]
    for collection in made:
        call("POST", url + "/api/collections", {"type": "base", **collection}, bearer)
    authors = json.loads(call("GET", url + "/api/collections/authors", bearer=bearer)[1])["id"]
    books = {"name": "books", "type": "base", "fields": [identifier, {"name": "author", "type": "relation", "collectionId": authors, "maxSelect": 1, "required": True}, text("title")], "listRule": "", "viewRule": "", "indexes": ["CREATE INDEX books_author ON books (author)"]}
    call("POST", url + "/api/collections", books, bearer)
    who = {"email": "one@example.org", "password": "a long password", "passwordConfirm": "a long password", "verified": True}
    person = json.loads(call("POST", url + "/api/collections/people/records", who, bearer)[1])["id"]
    session = call("POST", url + "/api/collections/people/auth-with-password", {"identity": who["email"], "password": who["password"]})[1]
    with open(os.path.join(folder, "person"), "w", encoding="utf-8") as file:
        file.write(person)
    print(json.loads(session)["token"])


def rows(database, folder):
    """Writes the benchmark's rows into PocketBase's SQLite database; PocketBase must not run."""
    with open(os.path.join(folder, "person"), encoding="utf-8") as file:
        person = file.read()
    letters = random.Random(1)
    others = ["".join(letters.choices(string.ascii_lowercase, k=15)) for _ in range(99)]
    connection = sqlite3.connect(database)
    connection.executemany(
        "INSERT INTO notes (id, owner, title, body, made) VALUES (?, ?, ?, ?, ?)",
        ((f"r{n:014}", person if n <= 1000 else others[(n - 1) // 1000 - 1], f"note {n}", "All work and no play. " * 8, f"2024-01-{1 + n // 1440 % 28:02} {n // 60 % 24:02}:{n % 60:02}:00.000Z") for n in range(1, 100001)),
    )
    connection.executemany("INSERT INTO authors (id, name) VALUES (?, ?)", ((f"r{n:014}", f"author {n}") for n in range(1, 1001)))
    connection.executemany("INSERT INTO books (id, author, title) VALUES (?, ?, ?)", ((f"r{n:014}", f"r{(n - 1) // 10 + 1:014}", f"book {n}") for n in range(1, 10001)))
    connection.commit()


def table():
    """Reads row, server and value from standard input; prints a Markdown table of medians, and of Beacon's ratios."""
    values = {}
    order = []
    for line in sys.stdin:
        row, server, value = line.rstrip("\n").split("\t")
        values.setdefault(row, {}).setdefault(server, []).append(float(value))
        if server not in order:
            order.append(server)
    print("| " + " | ".join(["", *order]) + " |")
    print("| --- |" + " ---: |" * len(order))
    for row, servers in values.items():
        ours = statistics.median(servers["beacon"]) if "beacon" in servers else None
        cells = []
        for server in order:
            if server not in servers:
                cells.append("")
                continue
            median = statistics.median(servers[server])
            spread = f"{min(servers[server]):,.0f} to {max(servers[server]):,.0f}" if len(servers[server]) > 1 else ""
            ratio = f", Beacon {ours / median:.2f}×" if ours and server != "beacon" else ""
            cells.append(f"{median:,.0f}{ratio}" + (f" ({spread})" if spread else ""))
        print("| " + " | ".join([row, *cells]) + " |")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
