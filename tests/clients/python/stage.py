"""What the journeys share: clients for Beacon, and `check`, which prints one line of JSON for each case."""

import json
import os
import re
import urllib.parse
import urllib.request
import uuid

from supabase import ClientOptions, create_client

ORIGIN = os.environ["BEACON_ORIGIN"]
PUBLISHABLE = os.environ["BEACON_PUBLISHABLE"]
SECRET = os.environ["BEACON_SECRET"]


def connect(key=PUBLISHABLE, **options):
    return create_client(ORIGIN, key, ClientOptions(auto_refresh_token=False, persist_session=False, **options))


def check(ids, name):
    """Runs the decorated case at once, and reports it."""

    def run(body):
        error = None
        try:
            body()
        except Exception as thrown:  # noqa: BLE001: whatever it is, it is what went wrong
            error = f"{type(thrown).__name__}: {thrown}"
        print(json.dumps({"ids": ids.split(" "), "name": name, "ok": error is None, "error": error}), flush=True)
        return body

    return run


def equal(got, wanted, what="the value"):
    assert got == wanted, f"{what} is {got!r}, not {wanted!r}"


def refused(error, body, code):
    """`body` must fail with this kind of error and code."""
    try:
        answer = body()
    except error as thrown:
        equal(thrown.code, code, f"the code of {thrown}")
        return thrown
    raise AssertionError(f"no error, but {answer!r}")


def person():
    return {"email": f"{uuid.uuid4().hex[:10]}@example.org", "password": f"pass-{uuid.uuid4()}"}


def mail(address):
    """The next mail to an address: its text, the link in it, and the code."""
    with urllib.request.urlopen(f"{os.environ['BEACON_MAILBOX']}/take/{urllib.parse.quote(address)}") as answer:
        body = json.load(answer)
    text = body["text"] or body["html"]
    link = re.search(r"https?://[^\s\"'<>]+verify[^\s\"'<>]*", text)
    code = re.search(r"(?<![0-9A-Za-z])\d{6}(?![0-9A-Za-z])", text)
    return {"link": link and link[0].replace("&amp;", "&"), "code": code and code[0]}
