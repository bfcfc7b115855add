"""The task of Celery's that runs Django's tasks, and what becomes of those that no process can finish.

For workers: a web process never imports this.
"""
import logging
import sys
from traceback import format_exception

from django.db import close_old_connections
from django.tasks import TaskContext, TaskResultStatus, task_backends
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json

from . import rows
from .backend import NAME, BeaconBackend

logger = logging.getLogger('django.tasks')


def register(app):
    """Registers the task with a Celery application."""
    if NAME not in app.tasks:
        app.task(body, name=NAME, bind=True, ignore_result=True, lazy=False, shared=False)
    return app.tasks[NAME]


def body(self, id, **lasting):
    """Runs one of Django's tasks. What it raises is raised on, so that Celery's tools show a failure as one."""
    backend = task_backends[lasting['backend']]
    row = backend.load(id) or rows.new_row(id, lasting)
    if row['status'] == TaskResultStatus.SUCCESSFUL:
        # It has ended, and its worker was lost before it could acknowledge the message.
        logger.info('Task id=%s has ended well before', id)
        return
    # A failure that is delivered again is tried again: somebody replays a dead letter.
    attempt(backend, row, self.request.hostname or '')


def attempt(backend, row, worker):
    now = rows.text(timezone.now())
    row.update(status=str(TaskResultStatus.RUNNING), last_attempted_at=now, started_at=row['started_at'] or now,
               finished_at=None)
    row['worker_ids'].append(worker)
    backend.save(row)
    close_old_connections()
    result = None
    try:
        result = rows.result_of(row)
        task = result.task
        task_started.send_robust(type(backend), task_result=result)
        args = (TaskContext(task_result=result), *result.args) if task.takes_context else result.args
        value = normalize_json(task.call(*args, **result.kwargs))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or ended_by_signal():
            # Not its own end: whoever sent the signal decides what becomes of it.
            raise
        kind = type(error)
        fail(backend, row, result, '%s.%s' % (kind.__module__, kind.__qualname__), ''.join(format_exception(error)))
        if isinstance(error, Exception):
            raise
        # What would end the process must end the task alone.
        raise RuntimeError('The task raised %r' % error) from error
    else:
        row.update(status=str(TaskResultStatus.SUCCESSFUL), finished_at=rows.text(timezone.now()), return_value=value)
        backend.save(row)
        rows.set_field(result, 'status', TaskResultStatus.SUCCESSFUL)
        rows.set_field(result, 'finished_at', rows.moment(row['finished_at']))
        rows.set_field(result, '_return_value', value)
        task_finished.send_robust(type(backend), task_result=result)
    finally:
        close_old_connections()


def ended_by_signal():
    """Whether the process is about to end because it was told to."""
    common = sys.modules.get('billiard.common')
    flag = getattr(common, '_should_have_exited', None)
    return bool(flag and flag[0])


def fail(backend, row, result, path, traceback):
    """Makes a failure known; `result` is None if the task cannot be imported."""
    row['errors'].append({'exception_class_path': path, 'traceback': traceback})
    row.update(status=str(TaskResultStatus.FAILED), finished_at=rows.text(timezone.now()))
    backend.save(row)
    if result is not None:
        result.errors.append(TaskError(exception_class_path=path, traceback=traceback))
        rows.set_field(result, 'status', TaskResultStatus.FAILED)
        rows.set_field(result, 'finished_at', rows.moment(row['finished_at']))
        task_finished.send_robust(type(backend), task_result=result)


def give_up(id, lasting, path, message):
    """A task that no process will finish: its own was lost or ended, or it was revoked, has expired or was refused."""
    backend = find(lasting)
    row = backend.load(id) or rows.new_row(id, lasting)
    if rows.is_finished(row):
        return
    try:
        result = rows.result_of(row)
    except Exception as error:
        logger.warning('Task id=%s path=%s cannot be imported: %r', id, row['task'], error)
        result = None
    fail(backend, row, result, path, '%s: %s\n' % (path, message))


def succeeded(id, lasting):
    """What a task gave that has ended well, its process then lost: (True, value)."""
    row = find(lasting).load(id)
    if row is not None and row['status'] == TaskResultStatus.SUCCESSFUL:
        return True, row['return_value']
    return False, None


def find(lasting):
    """The backend of a message; one that cannot be read has no name in it."""
    alias = lasting.get('backend')
    if alias is not None:
        return task_backends[alias]
    return next(backend for backend in map(task_backends.__getitem__, task_backends)
                if isinstance(backend, BeaconBackend))
