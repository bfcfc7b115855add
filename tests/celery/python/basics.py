"""What each supported version of Celery's client does every day; short, because it runs with several of them."""

import time
import uuid

from celery import chain, chord, group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from cases import BOUND, case, equal, raises, run, traces
from proj import app, tasks


@case("delay and get")
def _():
    result = tasks.add.delay(2, 3)
    equal(result.get(timeout=BOUND), 5)
    equal(result.state, "SUCCESS")


@case("send_task by name")
def _():
    equal(app.send_task("proj.tasks.echo", args=["a"], kwargs={"b": 1}).get(timeout=BOUND), [["a"], {"b": 1}])


@case("a result by its id alone")
def _():
    sent = tasks.identity.delay({"deep": [1, None, True, "ü"]})
    equal(AsyncResult(sent.id, app=app).get(timeout=BOUND), {"deep": [1, None, True, "ü"]})


@case("an exception comes back with its type and traceback")
def _():
    result = tasks.fail.delay("why")
    error = raises(ValueError, lambda: result.get(timeout=BOUND))
    equal(error.args, ("why",))
    assert "ValueError: why" in result.traceback, result.traceback


@case("chain")
def _():
    equal(chain(tasks.add.s(1, 1), tasks.add.s(2), tasks.add.s(3))().get(timeout=BOUND), 7)


@case("group")
def _():
    equal(group(tasks.add.s(number, number) for number in range(8))().get(timeout=BOUND), list(range(0, 16, 2)))


@case("chord")
def _():
    equal(chord((tasks.add.s(number, 1) for number in range(10)), tasks.total.s())().get(timeout=BOUND), 55)


@case("a chord whose header fails")
def _():
    result = chord([tasks.add.s(1, 1), tasks.fail.s("header")], tasks.total.s())()
    error = result.get(timeout=BOUND, propagate=False)
    equal(type(error).__name__, "ChordError")
    assert "ValueError('header')" in str(error), repr(error)


@case("link and link_error")
def _():
    key = uuid.uuid4().hex
    tasks.add.apply_async((2, 2), link=tasks.on_value.s(key))
    equal(traces(key, 1), ["4"])
    failed = tasks.fail.apply_async(("x",), link_error=tasks.on_error_id.s(key))
    equal(traces(key, 2)[1], failed.id)


@case("retry")
def _():
    equal(tasks.retry_until.delay(2).get(timeout=BOUND), 2)


@case("countdown")
def _():
    begun = time.time()
    key = uuid.uuid4().hex
    tasks.mark.apply_async((key, "ran"), countdown=1.5)
    traces(key, 1)
    late = time.time() - begun
    assert 1.4 < late < 5, f"ran after {late} s"


@case("expires")
def _():
    result = tasks.add.apply_async((1, 1), countdown=1, expires=0.5)
    raises(TaskRevokedError, lambda: result.get(timeout=BOUND))


@case("ping")
def _():
    answers = app.control.ping(timeout=2)
    equal([list(answer.values()) for answer in answers], [[{"ok": "pong"}]])


if __name__ == "__main__":
    run()
