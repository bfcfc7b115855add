"""A task's result as it is kept in Redis: JSON below `beacon:django-task:<id>`.

The message carries what does not change of it, so that a row that expired while its message waited can be made again.
"""
import json
from datetime import datetime

from django.tasks import TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.utils.module_loading import import_string

#: What a message carries, too.
LASTING = ('task', 'args', 'kwargs', 'priority', 'queue_name', 'backend', 'run_after', 'enqueued_at')


def text(moment):
    return None if moment is None else moment.isoformat()


def moment(text):
    return None if text is None else datetime.fromisoformat(text)


def row_of(result):
    task = result.task
    return {
        'id': result.id,
        'task': task.module_path,
        'args': result.args,
        'kwargs': result.kwargs,
        'priority': task.priority,
        'queue_name': task.queue_name,
        'backend': result.backend,
        'run_after': text(task.run_after),
        'enqueued_at': text(result.enqueued_at),
        'started_at': text(result.started_at),
        'finished_at': text(result.finished_at),
        'last_attempted_at': text(result.last_attempted_at),
        'status': str(result.status),
        'errors': [{'exception_class_path': error.exception_class_path, 'traceback': error.traceback}
                   for error in result.errors],
        'worker_ids': result.worker_ids,
        'return_value': result._return_value,
    }


def new_row(id, lasting):
    """The row of a task that has not run, from what its message carries."""
    row = dict.fromkeys(('started_at', 'finished_at', 'last_attempted_at', 'return_value'))
    row.update((name, lasting.get(name)) for name in LASTING)
    row.update(id=id, status=str(TaskResultStatus.READY), errors=[], worker_ids=[])
    return row


def result_of(row):
    """The result that a row describes. ImportError: its task is no longer there."""
    task = import_string(row['task']).using(
        priority=row['priority'], queue_name=row['queue_name'], run_after=moment(row['run_after']),
        backend=row['backend'])
    result = TaskResult(
        task=task,
        id=row['id'],
        status=TaskResultStatus(row['status']),
        enqueued_at=moment(row['enqueued_at']),
        started_at=moment(row['started_at']),
        finished_at=moment(row['finished_at']),
        last_attempted_at=moment(row['last_attempted_at']),
        args=row['args'],
        kwargs=row['kwargs'],
        backend=row['backend'],
        errors=[TaskError(**error) for error in row['errors']],
        worker_ids=row['worker_ids'],
    )
    set_field(result, '_return_value', row['return_value'])
    return result


def set_field(result, name, value):
    """Sets a field of a result, which Django has frozen."""
    object.__setattr__(result, name, value)


def is_finished(row):
    return row['status'] in (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED)


def encode(row):
    return json.dumps(row, separators=(',', ':'))
