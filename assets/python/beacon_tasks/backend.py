"""The backend: writes a row and a message in one transaction of Redis, and reads rows.

OPTIONS, each with its default:

    url               the broker, as Celery writes it: redis://, rediss://, redis+socket://; CELERY_BROKER_URL
    connection        more arguments for redis.Redis, {}
    transport_options as for Celery (global_keyprefix, priority_steps, sep); CELERY_BROKER_TRANSPORT_OPTIONS
    queue_names       the worker's queue for a queue of Django's, {'default': 'celery'}; a queue that is not in it keeps
                      its name, {}
    result_ttl        seconds that a result is kept after its last change, 604800 (a week)
    time_limit        seconds after which a task is ended by force, None
    soft_time_limit   seconds after which SoftTimeLimitExceeded is raised in it, None
    expires           seconds after which a task that has not begun never will, None
    on_commit         sends when the transaction of the database that is open commits, False
    database          which database that is, 'default'

Priorities: Django's -100 to 100 become Celery's 9 to 0. Django's 0 is Celery's 4, and a Celery task without a priority
has 0, the highest: on a queue of both kinds the latter go first. Give Django's tasks a queue of their own, or Celery's a
task_default_priority.
"""
import base64
import json
import os
import socket
import threading
from datetime import timedelta, timezone as zones
from functools import partial
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit
from uuid import uuid4

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.tasks import TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone

from . import rows

#: The task of Celery's that runs them all.
NAME = 'beacon.django_task'
#: A row's key, below the broker's prefix.
KEY = 'beacon:django-task:'
LONGEST_REPR = 1024

_clients = {}
_lock = threading.Lock()


class BeaconBackend(BaseTaskBackend):
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias, params):
        super().__init__(alias, params)
        options = self.options
        transport = options.get('transport_options')
        if transport is None:
            transport = getattr(settings, 'CELERY_BROKER_TRANSPORT_OPTIONS', None) or {}
        self.prefix = transport.get('global_keyprefix', '')
        self.steps = sorted(transport.get('priority_steps') or (0, 3, 6, 9))
        self.separator = transport.get('sep') or '\x06\x16'
        self.queue_names = options.get('queue_names') or {}
        self.result_ttl = int(options.get('result_ttl') or 7 * 86400)

    # -- Redis

    @property
    def url(self):
        url = (self.options.get('url') or getattr(settings, 'CELERY_BROKER_URL', None)
               or os.environ.get('CELERY_BROKER_URL'))
        if not url:
            raise ImproperlyConfigured(
                "TASKS[%r]['OPTIONS'] has no 'url', and there is no CELERY_BROKER_URL." % self.alias)
        return str(url)

    @property
    def client(self):
        """One for all threads: Django makes a backend for each."""
        connection = self.options.get('connection') or {}
        name = self.url, repr(connection)
        client = _clients.get(name)
        if client is None:
            with _lock:
                client = _clients.get(name)
                if client is None:
                    client = _clients[name] = connect(self.url, connection)
        return client

    def key(self, id):
        return self.prefix + KEY + id

    def list_of(self, task):
        """The list in Redis that a worker takes it from."""
        priority = priority_of(task)
        step = max([step for step in self.steps if step <= priority], default=self.steps[0])
        name = self.worker_queue(task.queue_name)
        return self.prefix + (name if step == self.steps[0] == 0 else '%s%s%s' % (name, self.separator, step))

    def worker_queue(self, name):
        """The worker's name of a queue."""
        return self.queue_names.get(name, name)

    def worker_queues(self):
        """What a worker has to consume."""
        return sorted({self.worker_queue(name) for name in self.queues})

    # -- Django's interface

    def enqueue(self, task, args, kwargs):
        self.validate_task(task)
        result = TaskResult(
            task=task, id=str(uuid4()), status=TaskResultStatus.READY, enqueued_at=timezone.now(), started_at=None,
            finished_at=None, last_attempted_at=None, args=args, kwargs=kwargs, backend=self.alias, errors=[],
            worker_ids=[])
        row = rows.row_of(result)
        # Now, so that what cannot be written is the caller's error.
        write = partial(self.send, result, rows.encode(row), self.message(result, row))
        if self.options.get('on_commit'):
            transaction.on_commit(write, using=self.options.get('database') or 'default')
        else:
            write()
        return result

    def send(self, result, row, message):
        task = result.task
        ttl = self.result_ttl
        if task.run_after is not None:
            ttl += max(0, int((aware(task.run_after) - aware(timezone.now())).total_seconds()))
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.set(self.key(result.id), row, ex=ttl)
            pipeline.lpush(self.list_of(task), message)
            pipeline.execute()
        task_enqueued.send(type(self), task_result=result)

    def get_result(self, result_id):
        row = self.load(result_id)
        if row is None:
            raise TaskResultDoesNotExist(result_id)
        return rows.result_of(row)

    def check(self, **kwargs):
        try:
            self.client
        except ImproperlyConfigured as error:
            return [checks.Error(str(error), id='beacon_tasks.E001')]
        return []

    # -- for workers

    def load(self, id):
        """The row as it is; None if there is none."""
        value = self.client.get(self.key(str(id)))
        return None if value is None else json.loads(value)

    def save(self, row):
        self.client.set(self.key(row['id']), rows.encode(row), ex=self.result_ttl)

    @staticmethod
    def beacon_worker():
        """The module for workers, which needs Celery."""
        from . import run
        return run

    def message(self, result, row):
        """Celery's message, protocol 2."""
        task, id = result.task, result.id
        options = self.options
        eta = expires = None
        start = aware(timezone.now())
        if task.run_after is not None:
            start = max(start, aware(task.run_after))
            eta = start.isoformat()
        if options.get('expires'):
            expires = (start + timedelta(seconds=options['expires'])).isoformat()
        body = [[id], {name: row[name] for name in rows.LASTING},
                {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}]
        return json.dumps({
            'body': base64.b64encode(json.dumps(body).encode()).decode(),
            'content-encoding': 'utf-8',
            'content-type': 'application/json',
            'headers': {
                'lang': 'py', 'task': NAME, 'id': id, 'shadow': task.module_path, 'eta': eta, 'expires': expires,
                'group': None, 'group_index': None, 'retries': 0,
                'timelimit': [options.get('time_limit'), options.get('soft_time_limit')],
                'root_id': id, 'parent_id': None, 'argsrepr': short(result.args), 'kwargsrepr': short(result.kwargs),
                'origin': 'django%d@%s' % (os.getpid(), socket.gethostname()), 'ignore_result': True,
                'replaced_task_nesting': 0, 'stamped_headers': None, 'stamps': {},
            },
            'properties': {
                'correlation_id': id, 'reply_to': '', 'delivery_mode': 2, 'body_encoding': 'base64',
                'delivery_info': {'exchange': '', 'routing_key': self.worker_queue(task.queue_name)},
                'priority': priority_of(task), 'delivery_tag': str(uuid4()),
            },
        })


def priority_of(task):
    """Celery's priority with Redis: 0 is first, 9 last."""
    return round((100 - task.priority) * 9 / 200)


def aware(moment):
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment)
    return moment.astimezone(zones.utc)


def short(value):
    text = repr(value)
    return text if len(text) <= LONGEST_REPR else text[:LONGEST_REPR - 3] + '...'


def connect(url, connection):
    try:
        import redis
    except ImportError as error:
        raise ImproperlyConfigured('The backend needs redis-py: pip install redis') from error
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    scheme = parts.scheme
    if scheme in ('redis+socket', 'socket', 'unix'):
        query.setdefault('db', query.pop('virtual_host', '0').strip('/') or '0')
        scheme = 'unix'
    elif scheme not in ('redis', 'rediss'):
        raise ImproperlyConfigured('The broker %s:// is no Redis that the backend knows.' % scheme)
    required = query.get('ssl_cert_reqs', '')
    if required.startswith('CERT_'):
        query['ssl_cert_reqs'] = required[5:].lower()
    path = quote(unquote(parts.path), safe='/')
    url = urlunsplit((scheme, parts.netloc, path, urlencode(query), ''))
    if scheme == 'unix':
        # An empty place before the path would be left out.
        url = 'unix://%s%s%s' % (parts.netloc, path, '?' + urlencode(query))
    try:
        return redis.Redis.from_url(url, **connection)
    except ValueError as error:
        raise ImproperlyConfigured('The address of the broker cannot be used: %s' % error) from error
