"""Single tasks as Celery 5.7's client sends them, and what comes back."""

import datetime
import decimal
import json
import time
import uuid

import redis
from celery import states
from celery.exceptions import NotRegistered, TaskRevokedError, TimeLimitExceeded
from celery.result import AsyncResult

from cases import BOUND, NODE, case, effects, equal, raises, run, traces, until
from proj import app, tasks


def stored(task_id):
    """The result as it lies in Redis."""
    value = app.backend.client.get(f"celery-task-meta-{task_id}")
    return json.loads(value) if value else None


def broker():
    return redis.Redis.from_url(app.conf.broker_url)


def waiting():
    return sum(broker().llen(name) for name in ("celery", "celery\x06\x163", "celery\x06\x166", "celery\x06\x169"))


@case("delay, apply_async and a direct call of the signature agree")
def _():
    for result in (tasks.add.delay(1, 2), tasks.add.apply_async((1, 2)), tasks.add.s(1, 2).delay()):
        equal(result.get(timeout=BOUND), 3)


@case("send_task without the code")
def _():
    result = app.send_task("proj.tasks.add", (20, 22))
    equal(result.get(timeout=BOUND), 42)
    equal(stored(result.id)["status"], "SUCCESS")


@case("values of each type that Celery's JSON has come through")
def _():
    moment = datetime.datetime(2026, 11, 25, 1, 2, 3, 456789, tzinfo=datetime.timezone.utc)
    values = [moment, moment.date(), decimal.Decimal("1.10"), uuid.UUID(int=7), b"\x00\xff", 2**80, -0.5, None, True, "\u2028\x00ü😀", {"a": [1]}]
    for value in values:
        equal(tasks.identity.delay(value).get(timeout=BOUND), value)


@case("numbers that JSON does not have come through as Python writes them")
def _():
    value = tasks.identity.delay([float("inf"), float("-inf"), float("nan")]).get(timeout=BOUND)
    equal(value[:2], [float("inf"), float("-inf")])
    assert value[2] != value[2]


@case("a result of a megabyte")
def _():
    equal(len(tasks.blob.delay(1_000_000).get(timeout=BOUND)), 1_000_000)


@case("an argument of a megabyte")
def _():
    value = "y" * 1_000_000
    equal(tasks.identity.delay(value).get(timeout=BOUND), value)


@case("a value that cannot be serialised is a failure that says so")
def _():
    error = raises(Exception, lambda: tasks.unserialisable.delay().get(timeout=BOUND))
    assert "serial" in repr(error).lower() or "Encod" in repr(error), repr(error)


@case("the stored result has Celery's fields")
def _():
    result = tasks.add.apply_async((4, 5), queue="celery")
    result.get(timeout=BOUND)
    meta = stored(result.id)
    wanted = {"status": "SUCCESS", "result": 9, "traceback": None, "children": [], "task_id": result.id, "name": "proj.tasks.add"}
    equal({key: meta[key] for key in wanted}, wanted)
    equal((meta["args"], meta["kwargs"], meta["worker"], meta["retries"], meta["queue"]), ([4, 5], {}, NODE, 0, "celery"))
    datetime.datetime.fromisoformat(meta["date_done"])
    left = app.backend.client.ttl(f"celery-task-meta-{result.id}")
    assert 86000 < left <= 86400, left


@case("the stored failure has Celery's fields")
def _():
    result = tasks.fail_with_custom.delay("x")
    error = raises(tasks.Custom, lambda: result.get(timeout=BOUND))
    equal(error.args, ("x", 7))
    meta = stored(result.id)
    equal((meta["status"], meta["result"]), ("FAILURE", {"exc_type": "Custom", "exc_message": ["x", 7], "exc_module": "proj.tasks"}))
    assert meta["traceback"].rstrip().endswith("proj.tasks.Custom: ('x', 7)"), meta["traceback"]


@case("the request in the body is the one that was sent")
def _():
    task_id = str(uuid.uuid4())
    # With a retry's fields and the headers of a caller's own.
    seen = tasks.request.apply_async(task_id=task_id, headers={"tenant": "acme"}, priority=3, time_limit=60, soft_time_limit=50).get(timeout=BOUND)
    equal((seen["id"], seen["root_id"], seen["parent_id"], seen["retries"]), (task_id, task_id, None, 0))
    equal((seen["hostname"], seen["timelimit"], seen["called_directly"]), (NODE, [60, 50], False))
    equal((seen["headers"] or {}).get("tenant"), "acme")
    information = seen["delivery_info"]
    equal((information["exchange"], information["routing_key"], information["priority"]), ("", "celery", 3))
    assert not information["redelivered"]
    equal(seen["correlation_id"], task_id)


@case("a stamp of a signature reaches the body")
def _():
    signature = tasks.request.s()
    signature.stamp(customer="7")
    equal(signature.delay().get(timeout=BOUND)["stamps"], {"customer": "7"})


@case("arguments that do not fit are a TypeError")
def _():
    result = app.send_task("proj.tasks.add", args=[1])
    error = raises(TypeError, lambda: result.get(timeout=BOUND))
    assert "y" in str(error), error


@case("an unknown task is NotRegistered")
def _():
    result = app.send_task("proj.tasks.never_written")
    raises(NotRegistered, lambda: result.get(timeout=BOUND))


@case("ignore_result of the task keeps nothing")
def _():
    key = uuid.uuid4().hex
    result = tasks.ignored.delay(key)
    traces(key, 1)
    until("the acknowledgement", lambda: broker().hlen("unacked") == 0)
    equal(stored(result.id), None)


@case("ignore_result of the call keeps nothing, and its opposite keeps all")
def _():
    key = uuid.uuid4().hex
    quiet = tasks.mark.apply_async((key, "1"), ignore_result=True)
    traces(key, 1)
    until("the acknowledgement", lambda: broker().hlen("unacked") == 0)
    equal(stored(quiet.id), None)
    kept = tasks.ignored.apply_async((key,), ignore_result=False)
    equal(app.AsyncResult(kept.id).get(timeout=BOUND), "a value that nobody keeps")


@case("a custom state with its meta, then the value")
def _():
    result = tasks.progress.delay(1)
    until("the custom state", lambda: result.state == "PROGRESS")
    equal(result.info, {"done": 3, "of": 7})
    equal(result.get(timeout=BOUND), "complete")


@case("STARTED with track_started")
def _():
    result = tasks.started.delay(1.5)
    until("STARTED", lambda: result.state == "STARTED")
    equal(result.info["hostname"], NODE)
    assert isinstance(result.info["pid"], int)
    result.get(timeout=BOUND)


@case("Ignore leaves the state that the body has set")
def _():
    result = tasks.ignore.delay()
    until("the state", lambda: result.state == "GONE")
    until("the acknowledgement", lambda: broker().hlen("unacked") == 0)
    equal(result.state, "GONE")


@case("Reject without requeue is a failure")
def _():
    key = uuid.uuid4().hex
    result = tasks.reject.delay(key, False)
    until("the failure", lambda: result.state == "FAILURE")
    equal(stored(result.id)["result"]["exc_type"], "Reject")
    equal(len(traces(key, 1)), 1)


@case("Reject with requeue runs it again, marked as redelivered")
def _():
    key = uuid.uuid4().hex
    equal(tasks.reject.delay(key, True).get(timeout=BOUND), "taken the second time")
    equal(traces(key, 2), ["0", "1"])


@case("retry to success, with the state RETRY between")
def _():
    result = tasks.retry_until.delay(3)
    seen = set()

    def ready():
        seen.add(result.state)
        return result.ready()

    until("the end", ready, step=0.01)
    equal(result.get(), 3)
    assert "RETRY" in seen, seen


@case("retries come to an end with the body's exception")
def _():
    key = uuid.uuid4().hex
    result = tasks.retry_in_vain.delay(key)
    raises(tasks.Custom, lambda: result.get(timeout=BOUND))
    equal(traces(key, 3), ["0", "1", "2"])
    equal(stored(result.id)["retries"], 2)


@case("autoretry_for")
def _():
    equal(tasks.retry_by_itself.delay().get(timeout=BOUND), 2)


@case("hooks of a base class and signals around the body, in order")
def _():
    for end, wanted in (
        ("success", ["prerun", "success hooked", "after SUCCESS", "postrun SUCCESS"]),
        ("failure", ["prerun", "failure ValueError('hooked')", "after FAILURE", "postrun FAILURE"]),
        ("retry", ["prerun", "retry", "postrun RETRY", "prerun", "success hooked", "after SUCCESS", "postrun SUCCESS"]),
    ):
        result = tasks.hooked.delay(end)
        found = traces(f"hooks:{result.id}", len(wanted))
        # A retry may run in another process while the first one ends.
        equal(sorted(found) if end == "retry" else found, sorted(wanted) if end == "retry" else wanted)


@case("link gets the value, link_error the failed task")
def _():
    key = uuid.uuid4().hex
    result = tasks.add.apply_async((3, 4), link=[tasks.on_value.s(key), tasks.on_value.s(key)])
    equal(traces(key, 2), ["7", "7"])
    # The second and further callbacks are sent as a group.
    until("the children", lambda: len(result.children or []) == 1)
    equal(len(result.children[0].children), 2)
    failed = tasks.fail.apply_async(("e",), link_error=[tasks.on_error.s(key), tasks.on_error_id.s(key)])
    equal(sorted(traces(key, 4)[2:]), sorted([failed.id, f"{failed.id} ValueError('e')"]))


@case("countdown and eta run no sooner, and the request says when")
def _():
    key = uuid.uuid4().hex
    begun = time.time()
    result = tasks.request.apply_async(countdown=1.5, link=tasks.on_value.s(key))
    later = tasks.mark.apply_async((key + "2", "x"), eta=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1))
    eta = datetime.datetime.fromisoformat(result.get(timeout=BOUND)["eta"]).timestamp()
    late = time.time() - begun
    assert abs(eta - begun - 1.5) < 0.5 and 1.4 < late < 6, (eta - begun, late)
    equal(later.get(timeout=BOUND), "x")


@case("an eta that is past, and one in another time zone")
def _():
    zone = datetime.timezone(datetime.timedelta(hours=-7))
    equal(tasks.add.apply_async((1, 1), eta=datetime.datetime.now(zone) - datetime.timedelta(hours=1)).get(timeout=BOUND), 2)
    equal(tasks.add.apply_async((1, 1), eta=datetime.datetime.now(zone) + datetime.timedelta(seconds=0.5)).get(timeout=BOUND), 2)


@case("expired before it begins is REVOKED")
def _():
    result = tasks.add.apply_async((1, 1), expires=datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=5))
    error = raises(TaskRevokedError, lambda: result.get(timeout=BOUND))
    equal(error.args, ("expired",))
    equal(result.state, states.REVOKED)


@case("expires in time runs")
def _():
    equal(tasks.add.apply_async((1, 1), expires=60).get(timeout=BOUND), 2)


@case("strictly by priority, whatever came first", stock=False)
def _():
    key = uuid.uuid4().hex
    blockers = [tasks.sleep.apply_async((1.5,), priority=0) for _ in range(2)]
    until("both places", lambda: sum(map(len, (app.control.inspect(timeout=1).active() or {}).values())) == 2)
    sent = [tasks.mark.apply_async((key, priority, 0.05), priority=priority) for priority in (9, 9, 6, 6, 3, 3, 0, 0)]
    for result in blockers + sent:
        result.get(timeout=BOUND)
    values = [int(value) for value in traces(key, 8)]
    # Two run at once, so neighbours may change places.
    assert all(one <= other for one, other in zip(values, values[2:])), values


@case("a soft limit raises in the body")
def _():
    equal(tasks.guarded.apply_async((10,), soft_time_limit=1).get(timeout=BOUND), "asked to end")


@case("a hard limit of the call ends the process, and the next task runs")
def _():
    begun = time.monotonic()
    result = tasks.sleep.apply_async((30,), time_limit=1)
    error = raises(TimeLimitExceeded, lambda: result.get(timeout=BOUND))
    equal(error.args, (1,))
    assert time.monotonic() - begun < 10
    equal(tasks.add.delay(1, 1).get(timeout=BOUND), 2)


@case("a hard limit of the task's own")
def _():
    raises(TimeLimitExceeded, lambda: tasks.limited.delay(30).get(timeout=BOUND))


@case("a hard limit after a soft one that is not heeded")
def _():
    raises(TimeLimitExceeded, lambda: tasks.deaf.apply_async((30,), soft_time_limit=0.5, time_limit=1.5).get(timeout=BOUND))


@case("a process that dies is WorkerLostError, and the next task runs")
def _():
    key = uuid.uuid4().hex
    result = tasks.die.delay(key)
    error = raises(Exception, lambda: result.get(timeout=BOUND))
    equal(type(error).__name__, "WorkerLostError")
    assert "SIGKILL" in str(error) or "signal 9" in str(error), error
    equal(traces(key, 1), ["begun"])
    equal(tasks.add.delay(1, 1).get(timeout=BOUND), 2)


@case("a task that kills each process it runs in comes to an end", stock=False)
def _():
    key = uuid.uuid4().hex
    result = tasks.die_late.delay(key)
    error = raises(Exception, lambda: result.get(timeout=BOUND))
    assert "Lost" in type(error).__name__ or "Lost" in str(error), repr(error)
    begun = traces(key, 1)
    assert 1 < len(begun) <= 3, begun
    equal(tasks.add.delay(1, 1).get(timeout=BOUND), 2)


@case("revoke before it begins")
def _():
    key = uuid.uuid4().hex
    result = tasks.mark.apply_async((key, "never"), countdown=1.5)
    result.revoke()
    raises(TaskRevokedError, lambda: result.get(timeout=BOUND))
    time.sleep(2)
    equal(effects().llen(key), 0)


@case("revoke with terminate ends the body")
def _():
    key = uuid.uuid4().hex
    result = tasks.sleep.delay(30, key)
    traces(key, 1)
    begun = time.monotonic()
    result.revoke(terminate=True)
    error = raises(TaskRevokedError, lambda: result.get(timeout=BOUND))
    equal(error.args, ("terminated",))
    assert time.monotonic() - begun < 10
    equal(tasks.add.delay(1, 1).get(timeout=BOUND), 2)
    equal(effects().lrange(key, 0, -1), ["begun"])


@case("revoke by a stamp")
def _():
    key = uuid.uuid4().hex
    signature = tasks.mark.s(key, "never").set(countdown=1.5)
    signature.stamp(order="o-77")
    result = signature.apply_async()
    app.control.revoke_by_stamped_headers({"order": ["o-77"]})
    raises(TaskRevokedError, lambda: result.get(timeout=BOUND))
    equal(effects().llen(key), 0)


@case("a rate limit spreads the runs")
def _():
    key = uuid.uuid4().hex
    for _ in range(5):
        tasks.rated.delay(key)
    times = sorted(float(at) for at in traces(key, 5))
    assert 1.5 < times[-1] - times[0] < 10, times


@case("forget removes the result")
def _():
    result = tasks.add.delay(1, 1)
    result.get(timeout=BOUND)
    result.forget()
    equal(stored(result.id), None)


@case("compressed messages")
def _():
    for compression in ("zlib", "gzip", "bzip2"):
        equal(tasks.identity.apply_async(("z" * 5000,), compression=compression).get(timeout=BOUND), "z" * 5000)


@case("messages of protocol 1")
def _():
    app.conf.task_protocol = 1
    try:
        equal(tasks.add.delay(5, 6).get(timeout=BOUND), 11)
    finally:
        app.conf.task_protocol = 2


@case("many results at once")
def _():
    results = [tasks.add.delay(number, 1) for number in range(200)]
    equal([result.get(timeout=BOUND) for result in results], list(range(1, 201)))


@case("a task sent within a task")
def _():
    child = tasks.spawn.delay(21)
    task_id = child.get(timeout=BOUND)
    equal(AsyncResult(task_id, app=app).get(timeout=BOUND), 42)
    until("the children", lambda: [each.id for each in child.children or []] == [task_id])


@case("nothing stays unacknowledged")
def _():
    until("an empty queue", lambda: waiting() == 0)
    until("no entry in unacked", lambda: broker().hlen("unacked") == 0 and broker().zcard("unacked_index") == 0)


if __name__ == "__main__":
    run()
