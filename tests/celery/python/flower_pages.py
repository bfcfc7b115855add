"""Flower 2.2: its API and its pages show the worker and its tasks."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from cases import BOUND, NODE, case, equal, run, traces, until
from proj import app, tasks

with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]


def get(path, data=None, kind=None):
    """The status and the body of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data=data, method=kind)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def asked(path):
    status, body = get(path)
    equal((status, body if status != 200 else ""), (200, ""))
    return json.loads(body)


@case("the worker comes online")
def _():
    until("the page", lambda: get("/healthcheck")[0] == 200)
    workers = until("the worker", lambda: (found := asked("/api/workers?refresh=1")) and NODE in found and found.get(NODE, {}).get("stats") and found)
    worker = workers[NODE]
    equal(worker["stats"]["pool"]["max-concurrency"], 2)
    assert "proj.tasks.add" in worker["registered"], worker["registered"]
    equal([queue["name"] for queue in worker["active_queues"]], ["celery"])
    until("its heartbeat", lambda: asked("/api/workers?status=1").get(NODE) is True)


@case("tasks are listed with their states")
def _():
    good, bad = tasks.add.delay(20, 22), tasks.fail.delay("for flower")
    equal(good.get(timeout=BOUND), 42)
    bad.get(timeout=BOUND, propagate=False)

    def states():
        found = asked("/api/tasks?limit=50")
        return {task_id: task["state"] for task_id, task in found.items()}

    until("both", lambda: states().get(good.id) == "SUCCESS" and states().get(bad.id) == "FAILURE")
    task = asked(f"/api/task/info/{good.id}")
    equal((task["name"], task["args"], task["result"], task["worker"]), ("proj.tasks.add", "(20, 22)", "42", NODE))
    assert task["received"] and task["started"] and task["succeeded"] and task["runtime"] is not None, task
    failed = asked(f"/api/task/info/{bad.id}")
    equal(failed["exception"], "ValueError('for flower')")
    assert "ValueError: for flower" in failed["traceback"]


@case("a task that is retried and one that is revoked")
def _():
    retried = tasks.retry_in_vain.delay(uuid.uuid4().hex)
    retried.get(timeout=BOUND, propagate=False)
    revoked = tasks.add.apply_async((1, 1), expires=-1)
    revoked.get(timeout=BOUND, propagate=False)
    until("FAILURE", lambda: asked("/api/tasks?limit=50").get(retried.id, {}).get("state") == "FAILURE")
    until("REVOKED", lambda: asked("/api/tasks?limit=50").get(revoked.id, {}).get("state") == "REVOKED")


@case("queue lengths")
def _():
    queues = asked("/api/queues/length")["active_queues"]
    equal([queue["name"] for queue in queues], ["celery"])


@case("sends a task, and revokes one that runs")
def _():
    status, body = get("/api/task/apply/proj.tasks.add", json.dumps({"args": [1, 2]}).encode())
    equal((status, json.loads(body)["result"]), (200, 3))
    key = uuid.uuid4().hex
    result = tasks.sleep.delay(30, key)
    traces(key, 1)
    equal(get(f"/api/task/revoke/{result.id}?terminate=true", b"", "POST")[0], 200)
    until("REVOKED", lambda: result.state == "REVOKED")


@case("changes the pool, limits and queues")
def _():
    node = urllib.parse.quote(NODE)
    equal(get(f"/api/worker/pool/grow/{node}?n=1", b"", "POST")[0], 200)
    until("three", lambda: len(asked(f"/api/workers?refresh=1&workername={node}")[NODE]["stats"]["pool"]["processes"]) == 3)
    equal(get(f"/api/worker/pool/shrink/{node}?n=1", b"", "POST")[0], 200)
    equal(get(f"/api/task/rate-limit/proj.tasks.add?workername={node}&ratelimit=100", b"", "POST")[0], 200)
    equal(get(f"/api/task/timeout/proj.tasks.add?workername={node}&hard=100&soft=90", b"", "POST")[0], 200)
    equal(get(f"/api/worker/queue/add-consumer/{node}?queue=flowers", b"", "POST")[0], 200)
    until("the queue", lambda: "flowers" in [queue["name"] for queue in asked(f"/api/workers?refresh=1&workername={node}")[NODE]["active_queues"]])
    equal(get(f"/api/worker/queue/cancel-consumer/{node}?queue=flowers", b"", "POST")[0], 200)


@case("the pages of workers, the worker, tasks, a task and the broker")
def _():
    result = tasks.add.delay(7, 8)
    result.get(timeout=BOUND)
    until("the task", lambda: result.id in asked("/api/tasks?limit=100"))
    for path, wanted in (
        ("/workers", NODE),
        (f"/worker/{urllib.parse.quote(NODE)}", "proj.tasks.add"),
        ("/tasks", "Tasks"),
        (f"/task/{result.id}", "proj.tasks.add"),
        ("/broker", "celery"),
        ("/metrics", "flower_worker_online"),
    ):
        status, body = get(path)
        equal((path, status), (path, 200))
        assert wanted in body, (path, body[:2000])


@case("figures for Prometheus name the worker")
def _():
    text = get("/metrics")[1]
    assert f'flower_worker_online{{worker="{NODE}"}} 1.0' in text, text
    assert 'type="task-succeeded"' in text


if __name__ == "__main__":
    words = [sys.executable, "-m", "celery", "-A", "proj", "flower", f"--port={PORT}", "--address=127.0.0.1", "--inspect_timeout=3000"]
    with open("flower.log", "w") as log:
        flower = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | {"FLOWER_UNAUTHENTICATED_API": "true"})
    begun = time.monotonic()
    try:
        while get("/healthcheck")[0] != 200 and flower.poll() is None and time.monotonic() - begun < BOUND:
            time.sleep(0.1)
        run()
    finally:
        flower.terminate()
        flower.wait(10)
