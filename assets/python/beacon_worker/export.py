"""What Beacon has to know of the application."""
import datetime
import json

from celery import __version__ as celery_version
from celery.utils.serialization import jsonify
from celery.utils.time import rate
from kombu.utils import json as kombu_json
from kombu.utils.encoding import safe_repr

from . import store
from .coroutines import is_coroutine

#: Settings that mean something to Beacon, as they are.
SETTINGS = (
    'accept_content', 'beat_cron_starting_deadline', 'beat_max_loop_interval', 'broker_connection_retry_on_startup',
    'broker_transport_options', 'control_exchange', 'control_queue_expires', 'control_queue_ttl', 'enable_utc',
    'event_exchange', 'event_queue_prefix', 'result_backend_transport_options', 'result_chord_join_timeout',
    'result_chord_ordered', 'result_compression', 'result_extended', 'result_serializer', 'task_acks_late',
    'task_acks_on_failure_or_timeout', 'task_create_missing_queues', 'task_default_exchange',
    'task_default_exchange_type', 'task_default_priority', 'task_default_queue', 'task_default_rate_limit',
    'task_default_routing_key', 'task_ignore_result', 'task_reject_on_worker_lost', 'task_send_sent_event',
    'task_serializer', 'task_soft_time_limit', 'task_store_errors_even_if_ignored', 'task_time_limit',
    'task_track_started', 'worker_concurrency', 'worker_deduplicate_successful_tasks', 'worker_direct',
    'worker_disable_rate_limits', 'worker_enable_remote_control', 'worker_hijack_root_logger',
    'worker_max_memory_per_child', 'worker_max_tasks_per_child', 'worker_pool', 'worker_pool_restarts',
    'worker_prefetch_multiplier', 'worker_proc_alive_timeout', 'worker_send_task_events',
    'worker_soft_shutdown_timeout', 'worker_state_db',
)


def plain(value):
    """As JSON, whatever it is."""
    def unknown(thing):
        if isinstance(thing, datetime.timedelta):
            return thing.total_seconds()
        if isinstance(thing, (set, frozenset)):
            return sorted(thing, key=str)
        if isinstance(thing, bytes):
            return thing.decode('utf-8', 'replace')
        return safe_repr(thing)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    try:
        # What kombu encodes, Celery would send.
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return jsonify(value, unknown_type_filter=unknown)


def seconds(value):
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    return None if not value else float(value)


def application(app, instance):
    conf = app.conf
    settings = {}
    for name in SETTINGS:
        try:
            settings[name] = plain(conf.get(name))
        except Exception as error:
            settings[name] = safe_repr(error)
    schedules, warnings = schedule(app)
    if conf.worker_pool not in (None, 'prefork', 'processes', 'solo'):
        warnings.append('worker_pool is %r; Beacon runs tasks in processes, and `async def` in one loop a process'
                        % (conf.worker_pool,))
    return {
        'celery': celery_version,
        'name': app.main or '',
        'node': instance.hostname,
        'broker': broker(app),
        'result': result(app),
        'result_expires': seconds(conf.result_expires),
        'timezone': str(conf.timezone or ('UTC' if conf.enable_utc else '')),
        'settings': settings,
        'concurrency': instance.concurrency if isinstance(instance.concurrency, int) else None,
        'max_tasks': instance.max_tasks_per_child,
        'max_memory_kib': instance.max_memory_per_child,
        'time_limit': seconds(instance.time_limit),
        'soft_time_limit': seconds(instance.soft_time_limit),
        'queues': queues(app),
        'tasks': tasks(app),
        'schedules': schedules,
        'warnings': warnings,
    }


def broker(app):
    """The broker's URL for reading, with its password: it goes to Beacon and nowhere else."""
    conf = app.conf
    read = conf.broker_read_url or conf.broker_url
    urls = read if isinstance(read, (list, tuple)) else str(read or '').split(';')
    connection = app.connection_for_read()
    return {
        'url': str(urls[0]) if urls and urls[0] else connection.as_uri(include_password=True),
        'transport': connection.transport_cls if isinstance(connection.transport_cls, str) else '',
        'options': plain(dict(conf.broker_transport_options or {})),
    }


def result(app):
    from celery.backends.base import DisabledBackend
    backend = app.backend
    reach = store.reachable(app)
    kind = 'none' if isinstance(backend, DisabledBackend) else 'redis' if reach else 'other'
    return dict({'kind': kind, 'class': '%s.%s' % (type(backend).__module__, type(backend).__qualname__)},
                **(reach or {}))


def queues(app):
    """Those that a worker with these options consumes."""
    listed = []
    for queue in app.amqp.queues.consume_from.values():
        exchange = queue.exchange
        listed.append({
            'name': queue.name,
            'exchange': exchange.name if exchange is not None else '',
            'exchange_type': exchange.type if exchange is not None else 'direct',
            'routing_key': queue.routing_key or '',
            'arguments': plain(queue.queue_arguments),
            'expires': queue.expires,
            'max_priority': queue.max_priority,
            'described': plain(dict(queue.as_dict(recurse=True))),
        })
    return listed


def tasks(app):
    return [task_fields(app, task) for _, task in sorted(app.tasks.items())]


def task_fields(app, task):
    limit = getattr(task, 'rate_limit', None)
    try:
        per_second = rate(limit) if limit and not app.conf.worker_disable_rate_limits else 0
    except (ValueError, TypeError, ZeroDivisionError):
        per_second = 0
    both = getattr(task, 'acks_on_failure_or_timeout', True)

    def acks(name):
        value = getattr(task, name, None)
        return bool(both if value is None else value)
    return {
        'name': task.name,
        'rate': per_second or None,
        'rate_limit': str(limit) if limit is not None else None,
        'exchange': getattr(task, 'exchange', None),
        'routing_key': getattr(task, 'routing_key', None),
        'time_limit': seconds(task.time_limit),
        'soft_time_limit': seconds(task.soft_time_limit),
        'ignore_result': bool(task.ignore_result),
        'store_errors_even_if_ignored': bool(task.store_errors_even_if_ignored),
        'track_started': bool(task.track_started),
        'send_events': bool(task.send_events),
        'acks_late': bool(task.acks_late),
        'acks_on_failure': acks('acks_on_failure'),
        'acks_on_timeout': acks('acks_on_timeout'),
        'reject_on_worker_lost': bool(task.reject_on_worker_lost),
        'retry_on_worker_lost': bool(getattr(task, 'retry_on_worker_lost', False)),
        'max_retries': task.max_retries,
        'default_retry_delay': seconds(task.default_retry_delay) or 0,
        'coroutine': is_coroutine(getattr(task, '_orig_run', None)) or is_coroutine(task.run),
    }


def schedule(app):
    """The entries of beat, resolved; and what cannot be."""
    from celery.beat import Scheduler
    entries, warnings = [], []
    try:
        scheduler = Scheduler(app=app, lazy=True)
        # In the order of beat's own persistent scheduler: the other one drops the default entries.
        scheduler.merge_inplace(dict(app.conf.beat_schedule or {}))
        scheduler.install_default_entries(scheduler.schedule)
        found = dict(scheduler.schedule)
    except Exception as error:
        return entries, ['the beat schedule cannot be read: %s' % safe_repr(error)]
    chosen = app.conf.beat_scheduler
    if chosen not in (None, '', 'celery.beat:PersistentScheduler', 'celery.beat.PersistentScheduler'):
        warnings.append('beat_scheduler is %s; Beacon takes the entries of beat_schedule and no others' % (chosen,))
    for name, entry in sorted(found.items(), key=lambda pair: str(pair[0])):
        try:
            timing = timing_of(app, entry.schedule)
        except Unsupported as error:
            warnings.append('the schedule of %r is left out: %s' % (name, error))
            continue
        from celery.beat import BeatLazyFunc
        values = list(entry.args or ()) + list((entry.kwargs or {}).values())
        entries.append({
            'name': str(name),
            'task': entry.task,
            'args': typed(list(entry.args or ())),
            'kwargs': typed(dict(entry.kwargs or {})),
            'options': sent_with(app, entry),
            # Its arguments are computed when it is due: ask the clerk for the message.
            'lazy': any(isinstance(value, BeatLazyFunc) for value in values),
            'schedule': timing,
        })
    return entries, warnings


def typed(value):
    """As kombu writes it into a message, dates and decimals included."""
    try:
        return json.loads(kombu_json.dumps(value))
    except (TypeError, ValueError):
        return plain(value)


def sent_with(app, entry):
    """The options that beat sends an entry with: the task's own and the router's among them."""
    task = app.tasks.get(entry.task)
    options = dict(task._get_exec_options() if task is not None else {}, **(entry.options or {}))
    found = {'headers': plain(dict(options.get('headers') or {}))}
    for name in ('expires', 'countdown', 'time_limit', 'soft_time_limit'):
        value = seconds(options.get(name)) if isinstance(options.get(name), (int, float, datetime.timedelta)) else None
        if value is not None:
            found[name] = value
    priority = options.get('priority')
    found['priority'] = app.conf.task_default_priority if priority is None else priority
    if options.get('ignore_result') is not None:
        found['ignore_result'] = bool(options['ignore_result'])
    try:
        route = app.amqp.router.route(
            dict(options), entry.task, list(entry.args or ()), dict(entry.kwargs or {}), task_type=task)
        queue = route.get('queue')
    except Exception:
        # Such as a queue that the application does not know: Celery would send nothing, and say why each time.
        queue = options.get('queue')
    if queue is not None:
        found['queue'] = getattr(queue, 'name', None) or str(queue)
    return found


class Unsupported(Exception):
    pass


def timing_of(app, timing):
    from celery.schedules import crontab
    from celery.schedules import schedule as interval
    if isinstance(timing, crontab):
        zone = timing.tz
        return {
            'kind': 'crontab',
            'minute': sorted(timing.minute),
            'hour': sorted(timing.hour),
            'day_of_week': sorted(timing.day_of_week),
            'day_of_month': sorted(timing.day_of_month),
            'month_of_year': sorted(timing.month_of_year),
            'timezone': getattr(zone, 'key', None) or getattr(zone, 'zone', None) or str(zone),
        }
    if type(timing) is interval or (isinstance(timing, interval) and type(timing).is_due is interval.is_due):
        return {'kind': 'interval', 'seconds': timing.run_every.total_seconds(), 'relative': bool(timing.relative)}
    raise Unsupported('a %s is neither a crontab nor an interval' % type(timing).__name__)
