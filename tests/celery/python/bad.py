"""Messages that nobody should send. For each there is an answer or a dead letter, and the queue goes on.

Most of these cases a stock worker fails: it loses the message, says nothing to the caller, blocks the queue or ends.
"""

import base64
import datetime
import json
import os
import pickle
import time
import uuid
import zlib

import redis
from celery.exceptions import NotRegistered

from cases import BOUND, NODE, case, equal, raises, run, until
from proj import app, tasks

client = redis.Redis.from_url(app.conf.broker_url)
DEAD = "beacon:dead"


def craft(task="proj.tasks.add", args=(1, 2), kwargs=None, body=None, headers=None, properties=None, drop=(), **top):
    """A message of protocol 2 with changes; `drop` names headers and properties that are left out. Gives it and its id."""
    task_id = str(uuid.uuid4())
    if body is None:
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        body = json.dumps([list(args), {} if kwargs is None else kwargs, embed])
    if isinstance(body, str):
        body = body.encode()
    made = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": task_id, "eta": None, "expires": None, "retries": 0, "timelimit": [None, None], **(headers or {})},
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            **(properties or {}),
        },
        **top,
    }
    for name in drop:
        made["headers"].pop(name, None)
        made["properties"].pop(name, None)
    return json.dumps(made), task_id


def push(message, queue="celery"):
    client.lpush(queue, message)


def lives():
    """The queue goes on, and nothing is held."""
    equal(tasks.add.delay(20, 22).get(timeout=BOUND), 42)
    until("no entry in unacked", lambda: client.hlen("unacked") == 0)


def dies(message):
    """It becomes a dead letter."""
    before = client.zcard(DEAD)
    push(message)
    until("the dead letter", lambda: client.zcard(DEAD) == before + 1)
    lives()


def fails(message, task_id, *kinds):
    """Whoever waits for it gets a failure, of one of these kinds if any are given."""
    push(message)
    result = app.AsyncResult(task_id)
    error = result.get(timeout=BOUND, propagate=False)
    equal(result.state, "FAILURE")
    assert not kinds or type(error).__name__ in kinds, repr(error)
    lives()


def succeeds(message, task_id, value=3):
    push(message)
    equal(app.AsyncResult(task_id).get(timeout=BOUND), value)
    lives()


# ---- as the table of what stock workers do with bad messages has them


@case("pickle is refused, and the caller told", stock=False)
def _():
    class Bomb:
        def __reduce__(self):
            return (os.system, ("touch pickle-was-loaded",))

    body = pickle.dumps([[Bomb(), 1], {}, {}])
    message, task_id = craft(body=body, **{"content-type": "application/x-python-serialize", "content-encoding": "binary"})
    fails(message, task_id, "ContentDisallowed")
    assert not os.path.exists("pickle-was-loaded")


@case("yaml, plain text and an unheard-of type are refused, and the caller told", stock=False)
def _():
    for kind in ("application/x-yaml", "text/plain", "application/x-msgpack", "nonsense"):
        message, task_id = craft(**{"content-type": kind})
        fails(message, task_id, "ContentDisallowed")


@case("an unknown task is told, and its chord and errbacks, too")
def _():
    message, task_id = craft(task="no.such.task")
    push(message)
    raises(NotRegistered, lambda: app.AsyncResult(task_id).get(timeout=BOUND))
    lives()


@case("a body that is no JSON", stock=False)
def _():
    message, task_id = craft(body='[[1, 2], {}, {"callbacks"')
    fails(message, task_id)


@case("a body that is not what it should be", stock=False)
def _():
    for body in ("null", "[]", "17", '"text"', "{}", "[1, 2, 3]", '[{}, [], null]', '[[1, 2]]'):
        message, task_id = craft(body=body)
        fails(message, task_id)


@case("a body that is no base64, and one with an encoding that is none", stock=False)
def _():
    message, task_id = craft()
    message = json.dumps({**json.loads(message), "body": "§§§"})
    fails(message, task_id)
    message, task_id = craft(properties={"body_encoding": "rot13"})
    fails(message, task_id)


@case("an eta and an expiry that are no time", stock=False)
def _():
    for headers in ({"eta": "tomorrow"}, {"expires": "never"}, {"eta": 17}, {"eta": {}}, {"eta": "2026-13-40T99:00:00"}):
        message, task_id = craft(headers=headers)
        fails(message, task_id)


@case("named arguments that are a list", stock=False)
def _():
    message, task_id = craft(kwargs=[1])
    fails(message, task_id)


@case("arguments that do not fit")
def _():
    message, task_id = craft(args=(1, 2, 3))
    fails(message, task_id, "TypeError")


@case("no task, no id, neither", stock=False)
def _():
    dies(craft(drop=["id"])[0])
    dies(craft(drop=["task", "id"])[0])
    before = client.zcard(DEAD)
    message, task_id = craft(drop=["task"])
    push(message)
    until("an answer or a dead letter", lambda: client.zcard(DEAD) == before + 1 or app.AsyncResult(task_id).state == "FAILURE")
    lives()


@case("no delivery tag, and no properties: it runs, or is a dead letter", stock=False)
def _():
    for message, task_id in (craft(drop=["delivery_tag"]), craft(drop=["delivery_tag", "delivery_info", "priority", "correlation_id", "delivery_mode"])):
        before = client.zcard(DEAD)
        push(message)
        until("its end", lambda: client.zcard(DEAD) == before + 1 or app.AsyncResult(task_id).ready())
        lives()


@case("an element that is no JSON, or no object", stock=False)
def _():
    for element in (b"", b"hello", b"\x00\xff\xfe", b"{", b"[]", b"null", b"17", b'"text"', b"{}", b'{"headers": []}', b'{"headers": 1, "body": 2, "properties": 3}', b"\xef\xbb\xbf{}"):
        dies(element)


@case("brackets without an end", stock=False)
def _():
    dies(b"[" * 200_000)
    dies(b'{"headers":' * 50_000)


# ---- beyond the table


@case("fields of the wrong type run, or are an answer", stock=False)
def _():
    for headers in (
        {"retries": "x"},
        {"retries": -3},
        {"retries": 2**70},
        {"timelimit": "1"},
        {"timelimit": ["a", None]},
        {"timelimit": [-1, -1]},
        {"timelimit": []},
        {"timelimit": None},
        {"root_id": 7},
        {"group_index": "x", "group": 7},
        {"stamped_headers": "x", "stamps": 5},
        {"ignore_result": "perhaps"},
        {"argsrepr": 5, "kwargsrepr": []},
        {"origin": None},
        {"replaced_task_nesting": "x"},
    ):
        before = client.zcard(DEAD)
        message, task_id = craft(headers=headers)
        push(message)
        until(f"an end with {headers}", lambda: client.zcard(DEAD) > before or app.AsyncResult(task_id).ready() or headers.get("ignore_result"))
        lives()


@case("priorities that are none")
def _():
    for priority in (99, -5, None, "7"):
        message, task_id = craft(properties={"priority": priority})
        succeeds(message, task_id)


@case("compression that is none, and a kind that is unknown", stock=False)
def _():
    message, task_id = craft(headers={"compression": "application/x-gzip"})
    fails(message, task_id)
    message, task_id = craft(headers={"compression": "application/x-nothing"})
    fails(message, task_id)


@case("a compressed body that would fill the memory", stock=False)
def _():
    squeezer = zlib.compressobj(9)
    body = b"".join([squeezer.compress(b'[["')] + [squeezer.compress(b"x" * 1_000_000) for _ in range(400)] + [squeezer.compress(b'"], {}, {}]'), squeezer.flush()])
    message, task_id = craft(body=body, headers={"compression": "application/x-gzip"})
    before = client.zcard(DEAD)
    push(message)
    until("an answer or a dead letter", lambda: client.zcard(DEAD) > before or app.AsyncResult(task_id).ready(), bound=60)
    lives()


@case("10 MB of arguments come through")
def _():
    message, task_id = craft(task="proj.tasks.identity", args=("x" * 10_000_000,))
    push(message)
    equal(len(app.AsyncResult(task_id).get(timeout=60)), 10_000_000)
    lives()


@case("more than the limit is a dead letter, and the caller told", stock=False)
def _():
    # The test's configuration takes 20 MB.
    message, task_id = craft(task="proj.tasks.identity", args=("x" * 21_000_000,))
    before = client.zcard(DEAD)
    push(message)
    until("the dead letter", lambda: client.zcard(DEAD) == before + 1, bound=60)
    lives()


@case("a canvas nested a thousand deep", stock=False)
def _():
    # As text, since Python's own encoder gives up before.
    signature = '{"task": "proj.tasks.identity", "args": [], "kwargs": {}, "options": {"link": [%s]}, "subtask_type": null, "immutable": false}'
    opening, end = signature.split("%s")
    nested = opening * 1000 + end * 1000
    text = '[[1], {}, {"callbacks": [%s], "errbacks": null, "chain": null, "chord": null}]' % nested
    message, task_id = craft(task="proj.tasks.identity", body=text)
    before = client.zcard(DEAD)
    push(message)
    until("an answer", lambda: client.zcard(DEAD) > before or app.AsyncResult(task_id).ready(), bound=60)
    lives()


@case("a canvas whose parts are the task itself by their identifier", stock=False)
def _():
    for task in ("proj.tasks.identity", "celery.accumulate"):
        for part in ("callbacks", "errbacks", "chain", "chord"):
            message, task_id = craft(task=task)
            signature = {"task": task, "args": [], "kwargs": {}, "options": {"task_id": task_id}, "subtask_type": None, "immutable": False}
            # It follows itself, and is to be followed by itself again.
            again = json.loads(json.dumps(signature))
            signature["options"] |= {"link": [again], "link_error": [again]}
            embed = {part: {**signature, "chord_size": 1} if part == "chord" else [signature]}
            message, _ = craft(task=task, body=json.dumps([[1], {}, embed]), headers={"id": task_id, "root_id": task_id, "group": task_id})
            before = client.zcard(DEAD)
            push(message)
            until(f"an end with {part}", lambda: client.zcard(DEAD) > before or app.AsyncResult(task_id).ready())
            lives()


@case("embedded signatures that are none", stock=False)
def _():
    for embed in ({"callbacks": "x"}, {"callbacks": [1]}, {"chain": [{"task": 5}]}, {"chord": []}, {"chord": {"task": "proj.tasks.total"}}, {"errbacks": {}}, [], 5):
        before = client.zcard(DEAD)
        message, task_id = craft(body=json.dumps([[1, 2], {}, embed]))
        push(message)
        until(f"an end with {embed}", lambda: client.zcard(DEAD) > before or app.AsyncResult(task_id).ready())
        lives()


# A stock worker holds what is revoked and far ahead until its time comes.
@case("times at the ends of the calendar and in odd zones", stock=False)
def _():
    for eta, runs in (
        ("0001-01-01T00:00:00+00:00", True),
        ("1969-12-31T23:59:59.999999-12:00", True),
        ("2026-01-01T00:00:00Z", True),
        ("2026-01-01T00:00:00", True),
        ("9999-12-31T23:59:59+00:00", False),
    ):
        message, task_id = craft(headers={"eta": eta})
        push(message)
        if runs:
            equal(app.AsyncResult(task_id).get(timeout=BOUND), 3)
        else:
            time.sleep(0.5)
            equal(app.AsyncResult(task_id).state, "PENDING")
            app.control.revoke(task_id)
            until("REVOKED", lambda: app.AsyncResult(task_id).state == "REVOKED")
    equal(tasks.add.delay(20, 22).get(timeout=BOUND), 42)


@case("an eta from a clock that is an hour ahead waits its time, and one behind runs at once", stock=False)
def _():
    now = datetime.datetime.now(datetime.timezone.utc)
    behind, ahead = craft(headers={"eta": (now - datetime.timedelta(hours=1)).isoformat()}), craft(headers={"eta": (now + datetime.timedelta(hours=1)).isoformat()})
    push(ahead[0])
    push(behind[0])
    equal(app.AsyncResult(behind[1]).get(timeout=BOUND), 3)
    equal(app.AsyncResult(ahead[1]).state, "PENDING")
    app.control.revoke(ahead[1])
    until("REVOKED", lambda: app.AsyncResult(ahead[1]).state == "REVOKED")


@case("a name of a task with everything that Unicode has")
def _():
    for name in ("", "ü.😀", "a" * 10_000, "../../etc/passwd", "x\x00y", "proj.tasks.add\x06\x163"):
        message, task_id = craft(task=name)
        push(message)
        if name:
            app.AsyncResult(task_id).get(timeout=BOUND, propagate=False)
    lives()


@case("100,000 queues that nobody reads are no burden")
def _():
    message, _id = craft()
    for start in range(0, 100_000, 1000):
        pipeline = client.pipeline(transaction=False)
        names = [f"tenant-{number}" for number in range(start, start + 1000)]
        for name in names:
            pipeline.lpush(name, message)
        pipeline.sadd("_kombu.binding.celery", *(f"{name}\x06\x16\x06\x16{name}" for name in names))
        pipeline.execute()
    begun = time.monotonic()
    equal([result.get(timeout=BOUND) for result in [tasks.add.delay(number, 1) for number in range(50)]], list(range(1, 51)))
    equal(app.control.ping(destination=[NODE], timeout=5), [{NODE: {"ok": "pong"}}])
    assert time.monotonic() - begun < 10, time.monotonic() - begun
    equal(client.llen("tenant-99999"), 1)
    for start in range(0, 100_000, 1000):
        client.delete(*(f"tenant-{number}" for number in range(start, start + 1000)))
    client.delete("_kombu.binding.celery")
    lives()


@case("replies to a client that is gone, and commands that are no commands", stock=False)
def _():
    topic = "/3.celery.pidbox"
    for text in ("", "no json", "{}", "[]", '{"body": "§"}', json.dumps({"body": base64.b64encode(b"[1]").decode(), "headers": {}, "properties": {"body_encoding": "base64"}})):
        client.publish(topic, text)
    for command in ({}, {"method": 5}, {"method": "ping", "arguments": []}, {"method": "revoke", "arguments": {"task_id": {}}}, {"method": "rate_limit"}, {"method": "ping", "pattern": "(" * 5000, "matcher": "pcre"}, {"method": "ping", "pattern": "(a+)+$", "matcher": "pcre"}):
        body = base64.b64encode(json.dumps({"arguments": {}, "destination": None, **command}).encode()).decode()
        envelope = {"body": body, "content-type": "application/json", "content-encoding": "utf-8", "headers": {"clock": 1, "expires": 0}, "properties": {"body_encoding": "base64", "delivery_tag": "x", "delivery_info": {}}}
        client.publish(topic, json.dumps(envelope))
    equal(app.control.ping(destination=[NODE], timeout=5), [{NODE: {"ok": "pong"}}])
    lives()


@case("nothing of all this stays behind")
def _():
    until("an empty queue", lambda: client.llen("celery") == 0)
    until("no entry in unacked", lambda: client.hlen("unacked") == 0 and client.zcard("unacked_index") == 0)


if __name__ == "__main__":
    run()
