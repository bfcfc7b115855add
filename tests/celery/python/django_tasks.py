"""What Django's documentation says of tasks, and what a worker owes a task that no process can finish."""

import asyncio
import time
import uuid
from datetime import timedelta

import django

django.setup()

from django.db import transaction
from django.tasks import TaskResultStatus, default_task_backend, task_backends
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
from django.utils import timezone

from cases import BOUND, case, equal, raises, run, traces, until
from django_site import celery_app, work


def finished(result):
    """The result, once it has ended."""

    def ended():
        result.refresh()
        return result.is_finished

    until("the end of %s" % result, ended)
    return result


def signals(result, number):
    """Those of a task; the last one is sent after the row is written."""
    return traces("signals-" + result.id, number)


def an_end(result, path, message):
    """A failure that no body came to."""
    assert result.status == TaskResultStatus.FAILED, result
    assert [error.exception_class_path for error in result.errors] == [path], result.errors
    assert message in result.errors[0].traceback, result.errors
    assert issubclass(result.errors[0].exception_class, Exception)
    assert result.finished_at is not None
    until("the signal", lambda: signals(result, 2)[-1] == "task_finished BeaconBackend FAILED")


@case("a task ends well")
def _():
    before = timezone.now()
    result = work.add.enqueue(2, y=3)
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 0), result
    raises(ValueError, lambda: result.return_value)
    finished(result)
    assert result.status == TaskResultStatus.SUCCESSFUL, result.errors
    assert (result.return_value, result.attempts, result.errors) == (5, 1, [])
    assert before < result.enqueued_at < result.started_at == result.last_attempted_at < result.finished_at
    assert "@" in result.worker_ids[0], result.worker_ids
    again = work.add.get_result(result.id)
    assert (again.args, again.kwargs, again.return_value, again.backend) == ([2], {"y": 3}, 5, "default")
    assert again == result
    assert signals(result, 3) == ["task_enqueued BeaconBackend READY", "task_started BeaconBackend RUNNING",
                                  "task_finished BeaconBackend SUCCESSFUL"]


@case("enqueued and awaited in a loop, coroutines among them")
def _():
    async def steps():
        results = [await task.aenqueue(number, 1) for number in range(3) for task in (work.add, work.aadd)]
        end = time.monotonic() + BOUND
        while not all(result.is_finished for result in results):
            assert time.monotonic() < end, results
            await asyncio.sleep(0.02)
            for result in results:
                await result.arefresh()
        assert [result.return_value for result in results] == [1, 1, 2, 2, 3, 3]
        assert (await work.aadd.aget_result(results[1].id)).return_value == 1
    asyncio.run(steps())


@case("a task that takes its context")
def _():
    assert finished(work.context.enqueue("k")).return_value == [1, "RUNNING", ["k"], "k"]


@case("failures, with their errors")
def _():
    result = finished(work.boom.enqueue("bad"))
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is ValueError
    assert result.errors[0].traceback.rstrip().endswith("ValueError: bad"), result.errors
    assert "in boom" in result.errors[0].traceback
    raises(ValueError, lambda: result.return_value)
    assert signals(result, 3)[-1] == "task_finished BeaconBackend FAILED"
    assert finished(work.leave.enqueue()).errors[0].exception_class is SystemExit
    assert finished(work.no_json.enqueue()).errors[0].exception_class is TypeError
    assert finished(work.add.enqueue()).errors[0].exception_class is TypeError


@case("calls that Django refuses")
def _():
    result = work.add.enqueue(1)
    raises(TaskResultMismatch, lambda: work.boom.get_result(result.id))
    raises(TaskResultDoesNotExist, lambda: work.add.get_result("none"))
    raises(TaskResultDoesNotExist, lambda: default_task_backend.get_result("none"))
    raises(TypeError, lambda: work.add.enqueue(object()))
    raises(InvalidTask, lambda: work.add.using(queue_name="none"))
    raises(InvalidTask, lambda: work.add.using(priority=101))
    raises(InvalidTask, lambda: work.add.using(run_after=timezone.now().replace(tzinfo=None)))
    assert finished(result).return_value == 1


@case("run_after")
def _():
    at = timezone.now() + timedelta(seconds=1.5)
    result = work.add.using(run_after=at).enqueue(4)
    assert result.task.run_after == at
    time.sleep(0.7)
    result.refresh()
    assert result.status == TaskResultStatus.READY
    finished(result)
    assert result.started_at >= at and result.return_value == 4 and result.task.run_after == at
    assert (result.started_at - at).total_seconds() < 5


@case("a queue of its own")
def _():
    assert finished(work.add.using(queue_name="mail").enqueue(6)).task.queue_name == "mail"


@case("sent when the transaction commits")
def _():
    with transaction.atomic():
        result = work.add_after_commit.enqueue(7)
        raises(TaskResultDoesNotExist, result.refresh)
    assert finished(result).return_value == 7
    try:
        with transaction.atomic():
            lost = work.add_after_commit.enqueue(8)
            raise KeyError
    except KeyError:
        raises(TaskResultDoesNotExist, lost.refresh)


@case("a row that is gone before the task begins")
def _():
    backend = task_backends["default"]
    result = work.add.using(run_after=timezone.now() + timedelta(seconds=1), priority=50).enqueue(9)
    assert backend.client.delete(backend.key(result.id)) == 1
    until("the row", lambda: backend.client.exists(backend.key(result.id)))
    again = finished(backend.get_result(result.id))
    equal((again.return_value, again.task.priority, again.enqueued_at), (9, 50, result.enqueued_at))


@case("what is delivered again runs again if it failed, and not if it ended well")
def _():
    backend = task_backends["default"]
    for task, argument, attempts, errors in (work.boom, "again", 2, ["ValueError"] * 2), (work.add, 5, 1, []):
        result = finished(task.enqueue(argument))
        row = backend.load(result.id)
        backend.client.lpush(backend.list_of(task), backend.message(result, row))
        until("an end of the second run", lambda: result.refresh() or (result.is_finished and result.attempts == attempts))
        # What is behind it in the queue ends after it, with one place or two.
        for _ in range(2):
            finished(work.add.enqueue(1))
        result.refresh()
        equal((result.attempts, [error.exception_class.__name__ for error in result.errors]), (attempts, errors))


@case("a process that is lost", stock=False)
def _():
    an_end(finished(work.die.enqueue()), "billiard.exceptions.WorkerLostError", "signal 9 (SIGKILL)")


@case("a hard time limit", stock=False)
def _():
    an_end(finished(work.nap_briefly.enqueue("naps", 60)), "billiard.exceptions.TimeLimitExceeded", "1")


@case("revoked while it runs", stock=False)
def _():
    key = uuid.uuid4().hex
    result = work.nap.enqueue(key, 60)
    traces(key, 1)
    celery_app.control.revoke(result.id, terminate=True)
    an_end(finished(result), "celery.exceptions.TaskRevokedError", "terminated")


@case("revoked before it runs", stock=False)
def _():
    result = work.add.using(run_after=timezone.now() + timedelta(seconds=3)).enqueue(1)
    celery_app.control.revoke(result.id)
    an_end(finished(result), "celery.exceptions.TaskRevokedError", "revoked")
    assert result.worker_ids == []


if __name__ == "__main__":
    run()
