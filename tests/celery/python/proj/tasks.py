"""Tasks of each kind, and the worker's signals. What a body does can be counted in a Redis of its own ("effects")."""

import os
import signal
import time
from functools import lru_cache

import redis
from celery import Task, chain, group, shared_task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded


@lru_cache(maxsize=None)
def effects(pid):
    """The connection of a process."""
    return redis.Redis.from_url(os.environ["PROJ_EFFECTS"], socket_timeout=10, retry_on_timeout=True)


def leave(key, value):
    """Leaves a trace that a test can count."""
    effects(os.getpid()).rpush(key, value)


class Custom(Exception):
    """An exception of the application's own."""


# ---- values


@shared_task
def add(x, y):
    return x + y


@shared_task
def total(numbers):
    return sum(numbers)


@shared_task
def echo(*args, **kwargs):
    return [list(args), kwargs]


@shared_task
def identity(value):
    return value


@shared_task
def blob(size):
    return "x" * size


@shared_task
def unserialisable():
    return object()


@shared_task(ignore_result=True)
def ignored(key):
    leave(key, "ran")
    return "a value that nobody keeps"


# ---- the request


@shared_task(bind=True)
def request(self):
    asked = self.request
    return {
        "id": asked.id,
        "root_id": asked.root_id,
        "parent_id": asked.parent_id,
        "retries": asked.retries,
        "hostname": asked.hostname,
        "delivery_info": asked.delivery_info,
        "headers": asked.headers,
        "eta": asked.eta,
        "expires": asked.expires,
        "timelimit": asked.timelimit,
        "group": asked.group,
        "correlation_id": asked.correlation_id,
        "reply_to": asked.reply_to,
        "origin": asked.origin,
        "stamps": asked.stamps,
        "called_directly": asked.called_directly,
    }


@shared_task(bind=True)
def lineage(self, _previous=None):
    return [self.request.id, self.request.root_id, self.request.parent_id]


# ---- failures and retries


@shared_task
def fail(message="deliberate"):
    raise ValueError(message)


@shared_task
def fail_with_custom(message):
    raise Custom(message, 7)


@shared_task(bind=True, max_retries=5)
def retry_until(self, count):
    if self.request.retries < count:
        raise self.retry(countdown=0.1)
    return self.request.retries


@shared_task(bind=True, max_retries=2)
def retry_in_vain(self, key):
    leave(key, self.request.retries)
    raise self.retry(exc=Custom("still no good"), countdown=0.1)


@shared_task(autoretry_for=(ValueError,), max_retries=2, retry_backoff=False, default_retry_delay=0, bind=True)
def retry_by_itself(self):
    if self.request.retries < 2:
        raise ValueError("again")
    return self.request.retries


@shared_task(bind=True)
def ignore(self):
    self.update_state(state="GONE", meta={"why": "ignored"})
    raise Ignore()


@shared_task(bind=True, acks_late=True)
def reject(self, key, requeue):
    leave(key, int(bool(self.request.delivery_info.get("redelivered"))))
    if requeue and self.request.delivery_info.get("redelivered"):
        return "taken the second time"
    raise Reject("no reason", requeue=requeue)


# ---- states, limits, time


@shared_task(bind=True)
def progress(self, seconds):
    self.update_state(state="PROGRESS", meta={"done": 3, "of": 7})
    time.sleep(seconds)
    return "complete"


@shared_task(track_started=True)
def started(seconds):
    time.sleep(seconds)


@shared_task
def sleep(seconds, key=None):
    if key:
        leave(key, "begun")
    time.sleep(seconds)
    if key:
        leave(key, "done")
    return seconds


@shared_task
def guarded(seconds):
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "asked to end"
    return "not asked"


@shared_task(time_limit=1)
def limited(seconds):
    time.sleep(seconds)


@shared_task
def deaf(seconds):
    """Takes no notice of a soft limit."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except SoftTimeLimitExceeded:
            pass


@shared_task(rate_limit="2/s")
def rated(key):
    leave(key, time.time())


# ---- effects, for counting


@shared_task
def mark(key, value, seconds=0):
    if seconds:
        time.sleep(seconds)
    leave(key, value)
    return value


@shared_task(acks_late=True)
def mark_late(key, value, seconds=0):
    leave(f"{key}:begun", value)
    if seconds:
        time.sleep(seconds)
    leave(key, value)
    return value


def counted(task, number):
    """Leaves a trace at the start and one at the end: who ran it, and when."""
    who = f"{number} {task.request.hostname} {os.getpid()}"
    leave("runs", f"{who} begun {time.time():.3f}")
    time.sleep(0.002)
    leave("runs", f"{who} done {time.time():.3f}")


@shared_task(bind=True, ignore_result=True)
def count(self, number):
    counted(self, number)


@shared_task(bind=True, acks_late=True, reject_on_worker_lost=True)
def count_late(self, number):
    counted(self, number)


@shared_task
def process():
    return os.getpid()


@shared_task
def now():
    return time.time()


@shared_task
def nothing():
    pass


@shared_task(ignore_result=True)
def nothing_kept():
    pass


# ---- processes that end


@shared_task
def die(key):
    leave(key, "begun")
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def die_late(key):
    leave(key, "begun")
    os.kill(os.getpid(), signal.SIGKILL)


# ---- canvas within bodies


@shared_task(bind=True)
def replaced(self, x, y):
    raise self.replace(add.s(x, y))


@shared_task(bind=True)
def replaced_by_group(self, numbers):
    raise self.replace(group(add.s(number, 1) for number in numbers))


@shared_task(bind=True)
def replaced_by_chain(self, x):
    raise self.replace(chain(add.s(x, 1), add.s(10)))


@shared_task(bind=True)
def grow_chord(self, number):
    self.add_to_chord(add.s(number, 100))
    return number


@shared_task
def spawn(x):
    return add.delay(x, x).id


# ---- callbacks


@shared_task
def on_value(value, key):
    leave(key, str(value))


@shared_task
def on_error_id(task_id, key):
    leave(key, task_id)


@shared_task
def on_error(request, exc, traceback, key):
    leave(key, f"{request.id} {exc!r}")


class Hooks(Task):
    """A base class whose hooks leave traces."""

    def on_success(self, retval, task_id, args, kwargs):
        leave(f"hooks:{task_id}", f"success {retval}")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        leave(f"hooks:{task_id}", f"failure {exc!r}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        leave(f"hooks:{task_id}", "retry")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        leave(f"hooks:{task_id}", f"after {status}")


@shared_task(base=Hooks, bind=True, max_retries=1)
def hooked(self, end):
    if end == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    if end == "failure":
        raise ValueError("hooked")
    return "hooked"


# ---- signals of a worker


@signals.task_prerun.connect
def before(task_id=None, task=None, **_):
    if task.name == "proj.tasks.hooked":
        leave(f"hooks:{task_id}", "prerun")


@signals.task_postrun.connect
def after(task_id=None, task=None, state=None, **_):
    if task.name == "proj.tasks.hooked":
        leave(f"hooks:{task_id}", f"postrun {state}")


@signals.worker_process_init.connect
def process_begins(**_):
    leave("signals", "worker_process_init")


@signals.worker_ready.connect
def worker_is_ready(sender=None, **_):
    leave("signals", "worker_ready")


@signals.worker_shutting_down.connect
def worker_stops(**_):
    leave("signals", "worker_shutting_down")
