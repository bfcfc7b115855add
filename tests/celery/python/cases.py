"""Cases of a journey: each runs by itself and is reported as a line of JSON. No test framework: old clients have none."""

import json
import os
import sys
import time
import traceback

import redis

STOCK = os.environ.get("WORKER") == "stock"
NODE = os.environ.get("NODE", "")
# Seconds that anything may take on a busy machine.
BOUND = 20.0
CASES = []


def case(name, stock=True):
    """A case; with stock=False one that `celery worker` is known to fail, and that is left out with it."""

    def taken(body):
        CASES.append((name, body, stock))
        return body

    return taken


def effects():
    """Where the bodies of tasks leave traces."""
    return redis.Redis.from_url(os.environ["PROJ_EFFECTS"], decode_responses=True)


def until(what, state, bound=BOUND, step=0.05):
    """Waits until `state` gives something true, and gives it."""
    begun = time.monotonic()
    while True:
        value = state()
        if value:
            return value
        assert time.monotonic() - begun < bound, f"waited in vain for {what}"
        time.sleep(step)


def traces(key, number, bound=BOUND):
    """The traces under a key, once there are as many."""
    client = effects()
    begun = time.monotonic()
    while len(found := client.lrange(key, 0, -1)) < number:
        assert time.monotonic() - begun < bound, f"{number} traces in {key}, which has {found}"
        time.sleep(0.05)
    return found


def raises(kind, body):
    """What it raises, which is of that kind."""
    try:
        value = body()
    except kind as error:
        return error
    raise AssertionError(f"gave {value!r} in place of {kind}")


def equal(one, other):
    assert one == other, f"{one!r} is not {other!r}"


def run():
    """Runs the cases whose names hold each word of the command line."""
    words = sys.argv[1:]
    for name, body, stock in CASES:
        if (STOCK and not stock) or any(word not in name for word in words):
            continue
        begun = time.monotonic()
        report = {"name": name, "ok": True}
        try:
            body()
        except BaseException:
            report = {"name": name, "ok": False, "error": traceback.format_exc(limit=-4)}
        report["seconds"] = round(time.monotonic() - begun, 2)
        print(json.dumps(report), flush=True)
