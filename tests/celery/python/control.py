"""Remote control: the API of the client, and `celery inspect|control|status|events|purge` as programs."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import redis
from celery.exceptions import TaskRevokedError, TimeLimitExceeded

from cases import BOUND, NODE, case, equal, raises, run, traces, until
from proj import app, tasks

control = app.control


def inspect(timeout=3):
    return control.inspect(destination=[NODE], timeout=timeout)


def of_node(answer):
    assert answer, "no worker has answered"
    equal(list(answer), [NODE])
    return answer[NODE]


def told(command, **arguments):
    """The answer to a command of remote control."""
    answers = control.broadcast(command, arguments=arguments, reply=True, destination=[NODE], timeout=3)
    equal(len(answers), 1)
    return answers[0][NODE]


def celery(*words, code=0):
    """What `celery` prints."""
    done = subprocess.run([sys.executable, "-m", "celery", "-A", "proj", "--no-color", *words], capture_output=True, text=True, timeout=60)
    equal((done.returncode, words if done.returncode == code else done.stdout + done.stderr), (code, words))
    return done.stdout + done.stderr


def running(number):
    until(f"{number} running", lambda: len(of_node(inspect().active())) == number)


@contextlib.contextmanager
def watched():
    """A list that events go into as they come."""
    seen = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": seen.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True)
        thread.start()
        until("an event", lambda: seen)
        try:
            yield seen
        finally:
            receiver.should_stop = True
            thread.join(10)


# ---- inspect


@case("ping, of all and of one; nobody else answers")
def _():
    equal(control.ping(timeout=2), [{NODE: {"ok": "pong"}}])
    equal(of_node(inspect().ping()), {"ok": "pong"})
    equal(control.ping(destination=["nobody@test.example"], timeout=1), [])


@case("a pattern chooses by name")
def _():
    equal(control.inspect(pattern="w*@test.example", matcher="glob", timeout=2, limit=1).ping(), {NODE: {"ok": "pong"}})
    equal(control.inspect(pattern="x*@test.example", matcher="glob", timeout=1).ping(), None)
    equal(control.inspect(pattern=r"w\d@.*", matcher="pcre", timeout=2, limit=1).ping(), {NODE: {"ok": "pong"}})


@case("active, reserved and query_task of what runs")
def _():
    result = tasks.sleep.apply_async((2,), priority=3)
    running(1)
    [request] = of_node(inspect().active())
    equal((request["id"], request["name"], request["type"], request["args"], request["kwargs"]), (result.id, "proj.tasks.sleep", "proj.tasks.sleep", [2], {}))
    equal((request["hostname"], request["delivery_info"]), (NODE, {"exchange": "", "routing_key": "celery", "priority": 3, "redelivered": False}))
    assert request["acknowledged"] is True and isinstance(request["worker_pid"], int)
    assert abs(request["time_start"] - time.time()) < 30, request["time_start"]
    state, again = of_node(inspect().query_task(result.id))[result.id]
    equal((state, again["id"]), ("active", result.id))
    equal(of_node(inspect().query_task("no-such-id")), {})
    assert all(each["id"] == result.id for each in of_node(inspect().reserved()))
    [short] = of_node(inspect().active(safe=True))
    equal(short["id"], result.id)
    result.get(timeout=BOUND)


@case("scheduled shows what waits for its time")
def _():
    result = tasks.add.apply_async((1, 2), countdown=60)
    [entry] = until("the entry", lambda: of_node(inspect().scheduled()))
    equal((entry["priority"], entry["request"]["id"], entry["request"]["name"], entry["request"]["args"]), (6, result.id, "proj.tasks.add", [1, 2]))
    equal((entry["request"]["time_start"], entry["request"]["acknowledged"], entry["request"]["worker_pid"]), (None, False, None))
    assert entry["eta"].startswith("20"), entry["eta"]
    state, _request = of_node(inspect().query_task([result.id]))[result.id]
    assert state in ("scheduled", "reserved"), state
    result.revoke()
    raises(TaskRevokedError, lambda: result.get(timeout=BOUND))


@case("stats")
def _():
    tasks.add.delay(1, 1).get(timeout=BOUND)
    stats = until("the count", lambda: (stats := of_node(inspect().stats()))["total"].get("proj.tasks.add") and stats)
    equal(stats["pool"]["max-concurrency"], 2)
    equal(len(stats["pool"]["processes"]), 2)
    equal((stats["broker"]["transport"], stats["broker"]["hostname"], stats["broker"]["virtual_host"]), ("redis", "127.0.0.1", "3"))
    assert "password" not in stats["broker"] and "p@ss" not in json.dumps(stats), "no secret"
    assert isinstance(stats["uptime"], int) and int(stats["clock"]) > 0 and stats["pid"] > 1
    assert {"prefetch_count", "rusage"} <= set(stats)


@case("registered, with and without fields")
def _():
    names = of_node(inspect().registered())
    assert {"proj.tasks.add", "proj.tasks.rated [rate_limit=2/s]"} <= set(names), names
    assert not any(name.startswith("celery.") for name in names)
    assert any("[name=proj.tasks.add]" in name for name in of_node(inspect().registered("name")))


@case("active_queues")
def _():
    [queue] = of_node(inspect().active_queues())
    equal((queue["name"], queue["routing_key"], queue["exchange"]["name"], queue["exchange"]["type"]), ("celery", "celery", "celery", "direct"))


@case("revoked, and revocations are told to those who ask hello")
def _():
    result = tasks.add.apply_async((1, 1), countdown=60)
    result.revoke()
    until("the id", lambda: result.id in of_node(inspect().revoked()))
    answer = of_node(inspect().hello("other@test.example", revoked={}))
    assert result.id in answer["revoked"] and answer["clock"] > 0
    raises(TaskRevokedError, lambda: result.get(timeout=BOUND))


@case("report, conf and clock")
def _():
    assert "software -> celery:" in of_node(inspect().report())["ok"]
    conf = of_node(inspect().conf())
    assert "proj.tasks" in conf["include"], conf["include"]
    assert "p@ss" not in json.dumps(conf) and "p%40ss" not in json.dumps(conf), "no secret"
    assert of_node(inspect().clock())["clock"] > 0


@case("an unknown command is an error, and the worker lives")
def _():
    assert "error" in told("no_such_command"), told("no_such_command")
    equal(of_node(inspect().ping()), {"ok": "pong"})


@case("commands of the application's own")
def _():
    equal(told("weather"), {"weather": "fine"})
    equal(told("double", factor=21), {"ok": "doubled 42"})


# ---- control


@case("rate_limit changes and lifts it")
def _():
    equal(told("rate_limit", task_name="proj.tasks.add", rate_limit="1/s"), {"ok": "new rate limit set successfully"})
    begun = time.monotonic()
    for result in [tasks.add.delay(1, 1) for _ in range(3)]:
        result.get(timeout=BOUND)
    assert time.monotonic() - begun > 1.5, time.monotonic() - begun
    equal(told("rate_limit", task_name="proj.tasks.add", rate_limit=0), {"ok": "rate limit disabled successfully"})
    begun = time.monotonic()
    for result in [tasks.add.delay(1, 1) for _ in range(5)]:
        result.get(timeout=BOUND)
    assert time.monotonic() - begun < 3, time.monotonic() - begun
    equal(told("rate_limit", task_name="proj.tasks.unwritten", rate_limit="1/s"), {"error": "unknown task"})
    assert "error" in told("rate_limit", task_name="proj.tasks.add", rate_limit="often")


# A stock worker has read the limits when it began, and answers well to no effect.
@case("time_limit changes the limits of a task", stock=False)
def _():
    equal(told("time_limit", task_name="proj.tasks.sleep", hard=1, soft=None), {"ok": "time limits set successfully"})
    raises(TimeLimitExceeded, lambda: tasks.sleep.delay(20).get(timeout=BOUND))
    equal(told("time_limit", task_name="proj.tasks.sleep", hard=None, soft=None), {"ok": "time limits set successfully"})
    equal(tasks.sleep.delay(1.5).get(timeout=BOUND), 1.5)


@case("add_consumer and cancel_consumer")
def _():
    name = f"side-{uuid.uuid4().hex[:6]}"
    result = tasks.add.apply_async((1, 1), queue=name)
    equal(told("add_consumer", queue=name), {"ok": f"add consumer {name}"})
    equal(result.get(timeout=BOUND), 2)
    until("the queue", lambda: {queue["name"] for queue in of_node(inspect().active_queues())} == {"celery", name})
    equal(told("cancel_consumer", queue=name), {"ok": f"no longer consuming from {name}"})
    until("its end", lambda: {queue["name"] for queue in of_node(inspect().active_queues())} == {"celery"})
    later = tasks.add.apply_async((2, 2), queue=name)
    time.sleep(1.5)
    equal(later.state, "PENDING")
    told("add_consumer", queue=name)
    equal(later.get(timeout=BOUND), 4)
    told("cancel_consumer", queue=name)


@case("pool_grow and pool_shrink")
def _():
    equal(told("pool_grow", n=1), {"ok": "pool will grow"})
    until("three", lambda: len(of_node(inspect().stats())["pool"]["processes"]) == 3)
    results = [tasks.sleep.delay(1.5) for _ in range(3)]
    running(3)
    for result in results:
        result.get(timeout=BOUND)
    equal(told("pool_shrink", n=1), {"ok": "pool will shrink"})
    until("two", lambda: len(of_node(inspect().stats())["pool"]["processes"]) == 2)


@case("enable_events and disable_events")
def _():
    with watched() as seen:
        equal(told("enable_events"), {"ok": "task events enabled"})
        equal(told("enable_events"), {"ok": "task events already enabled"})
        good, bad = tasks.add.delay(3, 4), tasks.fail.delay("seen")
        bad.get(timeout=BOUND, propagate=False)
        equal(good.get(timeout=BOUND), 7)
        ends = {"task-succeeded", "task-failed"}
        until("both ends", lambda: len([event for event in seen if event["type"] in ends]) == 2)
        equal(told("disable_events"), {"ok": "task events disabled"})
        equal(told("disable_events"), {"ok": "task events already disabled"})
        tasks.add.delay(1, 1).get(timeout=BOUND)
        number = len(seen)
        until("heartbeats", lambda: len(seen) >= number + 2)
    mine = [event for event in seen if event.get("uuid") == good.id]
    equal([event["type"] for event in mine], ["task-received", "task-started", "task-succeeded"])
    received, _, succeeded = mine
    equal((received["name"], received["args"], received["kwargs"], received["hostname"]), ("proj.tasks.add", "(3, 4)", "{}", NODE))
    equal((received["root_id"], received["parent_id"], received["retries"], received["eta"], received["expires"]), (good.id, None, 0, None, None))
    equal((succeeded["result"], succeeded["hostname"]), ("7", NODE))
    assert succeeded["runtime"] >= 0 and {"clock", "timestamp", "pid", "utcoffset"} <= set(succeeded), succeeded
    [failed] = [event for event in seen if event["type"] == "task-failed"]
    equal((failed["uuid"], failed["exception"]), (bad.id, "ValueError('seen')"))
    assert "ValueError: seen" in failed["traceback"], failed
    equal(len([event for event in seen if event["type"].startswith("task-")]), 6)
    clocks = [event["clock"] for event in seen if event["hostname"] == NODE]
    equal(clocks, sorted(clocks))


@case("heartbeats come every two seconds, with what Flower needs")
def _():
    with watched() as seen:
        begun, number = time.monotonic(), len(seen)
        until("three heartbeats", lambda: len(seen) >= number + 3)
        assert 3 < time.monotonic() - begun < 8, time.monotonic() - begun
    beat = seen[-1]
    equal((beat["type"], beat["hostname"], beat["freq"], len(beat["loadavg"])), ("worker-heartbeat", NODE, 2.0, 3))
    assert {"timestamp", "clock", "active", "processed", "sw_ident", "sw_ver", "sw_sys", "pid", "utcoffset"} <= set(beat), beat
    equal(beat["active"], 0)
    assert beat["processed"] > 0


@case("revoke of many, and terminate by its name")
def _():
    results = [tasks.add.apply_async((1, 1), countdown=30) for _ in range(3)]
    control.revoke([result.id for result in results])
    for result in results:
        raises(TaskRevokedError, lambda: result.get(timeout=BOUND))
    key = uuid.uuid4().hex
    running_one = tasks.sleep.delay(30, key)
    traces(key, 1)
    control.terminate(running_one.id, signal="SIGKILL")
    raises(TaskRevokedError, lambda: running_one.get(timeout=BOUND))


@case("a revoke of what has ended changes nothing")
def _():
    result = tasks.add.delay(1, 1)
    result.get(timeout=BOUND)
    result.revoke()
    time.sleep(0.5)
    equal(result.state, "SUCCESS")


@case("autoscale and pool_restart say why not")
def _():
    assert "error" in told("autoscale", max=4, min=1)
    assert "error" in told("pool_restart")


@case("no list of replies stays without an end", stock=False)
def _():
    client = redis.Redis.from_url(app.conf.broker_url)
    told("ping")
    left = [key for key in client.scan_iter("*.reply.celery.pidbox") if client.ttl(key) < 0]
    equal(left, [])


# ---- the command line


@case("celery status")
def _():
    text = celery("status", "--timeout", "3")
    assert f"{NODE}: OK" in text and "1 node online" in text, text


@case("celery inspect, each command")
def _():
    for command in ("ping", "active", "reserved", "scheduled", "stats", "registered", "active_queues", "revoked", "report", "conf", "clock"):
        text = celery("inspect", command, "--timeout", "3", "-d", NODE)
        assert NODE in text and "OK" in text, (command, text)


@case("celery inspect --json")
def _():
    equal(json.loads(celery("inspect", "ping", "--json", "--timeout", "3").strip().splitlines()[0]), {NODE: {"ok": "pong"}})


@case("celery inspect query_task and a command of the application's own")
def _():
    text = celery("inspect", "query_task", "no-such-id", "--timeout", "3")
    assert f"{NODE}: OK" in text and "1 node online" in text, text
    assert "fine" in celery("inspect", "weather", "--timeout", "3")


@case("celery control, each command")
def _():
    for words, wanted in (
        (("rate_limit", "proj.tasks.add", "100/s"), "new rate limit set successfully"),
        (("rate_limit", "proj.tasks.add", "0"), "new rate limit set successfully"),
        (("time_limit", "proj.tasks.started", "50", "60"), "time limits set successfully"),
        (("add_consumer", "other"), "add consumer other"),
        (("cancel_consumer", "other"), "no longer consuming from other"),
        (("pool_grow", "1"), "pool will grow"),
        (("pool_shrink", "1"), "pool will shrink"),
        (("enable_events",), "task events enabled"),
        (("disable_events",), "task events disabled"),
        (("revoke", "some-id"), "flagged as revoked"),
        (("double", "4"), "doubled 8"),
    ):
        text = celery("control", *words, "--timeout", "3")
        assert wanted in text, (words, text)


@case("celery call and celery result")
def _():
    task_id = celery("call", "proj.tasks.add", "--args", "[2, 3]").strip()
    until("the result", lambda: app.AsyncResult(task_id).ready())
    equal(celery("result", task_id).strip(), "5")


@case("celery events --dump")
def _():
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-um", "celery", "-A", "proj", "--no-color", "events", "--dump"]
        dump = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:

            def text():
                output.seek(0)
                return output.read()

            until("a heartbeat", lambda: "worker-heartbeat" in text() or NODE in text())
            told("enable_events")
            result = tasks.add.delay(5, 6)
            until("the task's end", lambda: "task succeeded" in text().lower() and result.id in text())
        finally:
            dump.terminate()
            dump.wait(10)
            told("disable_events")


@case("celery purge empties the queue")
def _():
    told("cancel_consumer", queue="celery")
    until("no consumer", lambda: not of_node(inspect().active_queues()))
    for number in range(7):
        tasks.add.apply_async((1, 1), priority=(0, 5, 9)[number % 3])
    text = celery("purge", "-f")
    assert "7 messages" in text, text
    told("add_consumer", queue="celery")
    until("the consumer", lambda: of_node(inspect().active_queues()))
    equal(tasks.add.delay(1, 1).get(timeout=BOUND), 2)


@case("celery list bindings sees the queue")
def _():
    assert "celery" in celery("list", "bindings")


@case("shutdown ends the worker after what runs, and says so")
def _():
    key = uuid.uuid4().hex
    result = tasks.sleep.delay(2, key)
    traces(key, 1)
    control.shutdown(destination=[NODE])
    equal(result.get(timeout=BOUND), 2)
    until("silence", lambda: not control.ping(destination=[NODE], timeout=1))


if __name__ == "__main__":
    run()
