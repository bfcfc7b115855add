"""Django's own tasks (Django 6 and later), if the project's backend for them is Beacon's: see assets/python/beacon_tasks.

What belongs to them is taken from the project's copy of it, so that who writes a row also reads it.
"""
import os

from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr

logger = get_logger('celery.beacon')

NAME = 'beacon.django_task'

#: The project's module for workers.
_run = None


def install(app, options):
    """Registers the task, and has its queues consumed if nobody said which."""
    global _run
    if not os.environ.get('DJANGO_SETTINGS_MODULE'):
        return
    try:
        from django.tasks import task_backends
    except ImportError:
        return
    queues = []
    for alias in task_backends:
        try:
            backend = task_backends[alias]
        except Exception as error:
            logger.warning('The task backend %r of Django cannot be used: %r', alias, error)
            continue
        module = getattr(backend, 'beacon_worker', None)
        if module is not None:
            _run = module()
            queues.extend(backend.worker_queues())
    if _run is None:
        return
    _run.register(app)
    if not options.get('queues'):
        known = app.amqp.queues
        for name in queues:
            if name not in known and name not in (options.get('exclude_queues') or ()):
                known.select_add(known.new_missing(name))


def concerns(headers):
    return _run is not None and headers.get('task') == NAME


def revoked(headers, body, reason):
    give_up(headers, body, TaskRevokedError, reason)


def timed_out(headers, body, limit):
    give_up(headers, body, TimeLimitExceeded, limit)


def give_up(headers, body, kind, message):
    """Marks the row of a task that no process will finish."""
    if concerns(headers):
        _run.give_up(headers['id'], body[1], '%s.%s' % (kind.__module__, kind.__qualname__), message)


def succeeded(headers, body):
    """The short form of what a task gave whose process was lost only after it; None if it had not ended well."""
    if not concerns(headers):
        return None
    well, value = _run.succeeded(headers['id'], body[1])
    return saferepr(value) if well else None
