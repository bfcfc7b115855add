"""The one process that knows the application and runs no bodies.

It exports what Beacon needs, runs the application's own remote-control commands, records ends that were decided outside
a body, and sends the signals that Celery's parent process sends. Its Worker and Consumer are Celery's own objects, never
started: what a command asks of them goes back to Beacon as wishes beside the answer.
"""
import os
import sys
from functools import partial
from time import monotonic

from celery import signals, states
from celery.exceptions import NotRegistered, WorkerLostError
from celery.utils.collections import AttributeDict
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from celery.worker import state as worker_state
from celery.worker.control import Panel
from kombu.message import Message
from kombu.utils.encoding import safe_repr

from . import django_tasks, export
from .message import Delivery, shaped

logger = get_logger('celery.beacon')

#: Where Celery's own commands are defined; Beacon answers those itself.
BUILT_IN = 'celery.worker.control'


class Clerk:
    def __init__(self, channel, app, instance, options):
        from celery._state import _set_task_join_will_block
        self.channel = channel
        self.app = app
        self.worker = instance
        self.consumer = instance.consumer
        self.wishes = []
        self.stopped = False
        _set_task_join_will_block(True)
        app.loader.init_worker_process()
        self.stand_in()
        self.state = AttributeDict(app=app, hostname=instance.hostname, consumer=self.consumer, tset=set)

    def stand_in(self):
        """Puts Beacon in the place of the broker's connection, the pool and the events."""
        consumer, wish = self.consumer, self.wishes.append
        consumer.add_task_queue = lambda queue, exchange=None, exchange_type=None, routing_key=None, **options: wish(
            {'wish': 'add_queue', 'queue': queue, 'exchange': exchange, 'exchange_type': exchange_type,
             'routing_key': routing_key, 'options': export.plain(options)})
        consumer.cancel_task_queue = lambda queue: wish({'wish': 'cancel_queue', 'queue': queue})
        consumer.qos = Quality(self.worker.concurrency)
        consumer._update_prefetch_count = lambda index=0: None
        consumer.reset_rate_limits = lambda: wish({'wish': 'rates', 'tasks': {
            task['name']: task['rate'] for task in export.tasks(self.app)}})
        consumer.update_strategies = lambda: None
        consumer.event_dispatcher = Dispatcher(self.app, consumer.hostname, wish)
        consumer.task_consumer = TaskConsumer(self.app)
        consumer.gossip = getattr(consumer, 'gossip', None)
        pool = self.worker.pool
        pool.grow = lambda n=1: wish({'wish': 'resize', 'by': n})
        pool.shrink = lambda n=1: wish({'wish': 'resize', 'by': -n})
        pool.restart = lambda: wish({'wish': 'restart'})
        pool.terminate_job = lambda pid, signal=None: None
        self.worker.reload = partial(self.reload, wish)

    @staticmethod
    def reload(wish, modules=None, reload=False, reloader=None):
        wish({'wish': 'restart'})

    def ready(self):
        import json
        return {'t': 'ready', 'pid': os.getpid()}, json.dumps(export.application(self.app, self.worker)).encode()

    # -- requests

    def serve(self):
        while True:
            head, body = self.channel.take()
            kind = head['t']
            if kind == 'exit':
                break
            if kind == 'ping':
                self.channel.send({'t': 'pong', 'n': head['n']})
                continue
            if 'until' in head:
                if monotonic() * 1000 > head['until']:
                    # Somebody else does it now.
                    self.channel.send({'t': 'answer', 'n': head['n'], 'failed': 'it was asked too late'})
                    continue
                self.channel.send({'t': 'answer', 'n': head['n'], 'begun': True})
            answer = {}
            try:
                answer = getattr(self, 'on_' + kind)(head, body) or {}
            except Exception as error:
                logger.error('%s failed: %r', kind, error, exc_info=True)
                answer = {'failed': safe_repr(error)}
            wishes, self.wishes[:] = list(self.wishes), []
            if wishes:
                answer['wishes'] = wishes
            answer.update(t='answer', n=head['n'])
            self.channel.send(answer)
        self.send_stopped()
        sys.stdout.flush()
        sys.stderr.flush()

    def on_report(self, head, body):
        return {'text': self.app.bugreport()}

    def on_commands(self, head, body):
        """The names of the application's own commands."""
        return {'names': sorted(name for name, handler in Panel.data.items() if self.own(handler))}

    @staticmethod
    def own(handler):
        return getattr(handler, '__module__', None) != BUILT_IN

    def on_control(self, head, body):
        """A remote-control command, as kombu's pidbox calls it; only those of the application."""
        import json
        handler = Panel.data.get(head['method'])
        if handler is None or not (self.own(handler) or head.get('all')):
            return {'unknown': True}
        arguments = json.loads(body) or {}
        before = set(worker_state.revoked)
        try:
            answer = {'value': export.plain(handler(self.state, **arguments))}
        except (SystemExit, KeyboardInterrupt) as error:
            # celery.exceptions.WorkerShutdown and WorkerTerminate are of this kind.
            self.wishes.append({'wish': 'shutdown', 'status': getattr(error, 'code', None)})
            answer = {'value': None}
        except Exception as error:
            logger.error('Control command error: %r', error, exc_info=True)
            answer = {'error': safe_repr(error)}
        self.perform_pending()
        revoked = set(worker_state.revoked) - before
        if revoked:
            self.wishes.append({'wish': 'revoke', 'ids': sorted(revoked)})
        if worker_state.should_stop not in (None, False) or worker_state.should_terminate not in (None, False):
            self.wishes.append({'wish': 'shutdown', 'status': worker_state.should_stop})
        return answer

    def perform_pending(self):
        """What commands put off with consumer.call_soon."""
        pending = getattr(self.consumer, '_pending_operations', None)
        while pending:
            # In their order, which a list (before Celery 5.7) does not keep by itself.
            operation = pending.popleft() if hasattr(pending, 'popleft') else pending.pop(0)
            try:
                operation()
            except Exception as error:
                logger.exception('Pending callback raised: %r', error)

    # -- signals of the parent

    def on_started(self, head, body):
        """The worker takes tasks."""
        signals.worker_ready.send(sender=self.consumer)
        logger.info('%s ready.', self.worker.hostname)

    def on_stopping(self, head, body):
        signals.worker_shutting_down.send(sender=self.worker.hostname, sig=head.get('sig') or 'SIGTERM',
                                          how=head.get('how') or 'Warm', exitcode=0)

    def on_stopped(self, head, body):
        self.send_stopped()

    def send_stopped(self):
        if not self.stopped:
            self.stopped = True
            self.app.loader.shutdown_worker()
            signals.worker_shutdown.send(sender=self.worker)

    # -- ends that were decided outside

    def request(self, head, raw):
        """Celery's own Request for the message, cut off from the broker."""
        delivery = Delivery(raw, head, self.worker.hostname)
        headers = delivery.headers
        if not delivery.content_type:
            body = shaped(delivery.body)
        else:
            try:
                body = delivery.content()
            except Exception:
                # It cannot be read, which may be why it ends here.
                body = ([], {}, {})
        message = Message(
            body=b'', delivery_tag=None, content_type=delivery.content_type,
            content_encoding=delivery.content_encoding, properties=delivery.properties, headers=headers,
            delivery_info=dict(delivery.delivery_info,
                               redelivered=delivery.request['delivery_info']['redelivered']))
        task = self.app.tasks.get(headers['task'])
        if task is None:
            return message, None, body, headers
        from celery.worker.request import Request
        headers = dict(headers, eta=None, expires=None)
        request = Request(message, app=self.app, hostname=self.worker.hostname, eventer=None, task=task,
                          headers=headers, body=body, decoded=True)
        request.time_start = head.get('started')
        request.worker_pid = head.get('pid')
        return message, request, body, headers

    def on_revoked(self, head, raw):
        """REVOKED: reason revoked, expired or terminated; Request._announce_revoked."""
        message, request, body, headers = self.request(head, raw)
        reason = head['reason']
        django_tasks.revoked(headers, body, reason)
        if request is not None:
            request._announce_revoked(reason, reason == 'terminated', head.get('signum'), reason == 'expired')
            return
        context = self.context(body, headers, message)
        self.app.backend.mark_as_revoked(headers['id'], reason, request=context, store_result=True)

    def on_timeout(self, head, raw):
        """The hard time limit was over; Request.on_timeout."""
        _, request, body, headers = self.request(head, raw)
        django_tasks.timed_out(headers, body, number(head['limit']))
        if request is not None:
            request.on_timeout(False, number(head['limit']))

    def on_lost(self, head, raw):
        """A process was lost while it ran the task: whether the task has ended all the same."""
        _, request, body, headers = self.request(head, raw)
        if request is None:
            return {}
        well = django_tasks.succeeded(headers, body)
        if well is not None:
            return {'succeeded': well}
        if not request.ignore_result:
            try:
                meta = request.task.backend.get_task_meta(request.id, cache=False)
            except Exception as error:
                logger.warning('The state of %s cannot be read: %r', request.id, error)
                meta = {}
            if meta.get('status') == states.SUCCESS:
                return {'succeeded': saferepr(meta.get('result'), request.task.resultrepr_maxsize)}
        task = request.task
        if getattr(task, 'retry_on_worker_lost', False) and hasattr(request, '_retry_worker_lost'):
            from billiard.einfo import ExceptionInfo
            limit = task.max_retries
            if limit is None or request._context.retries < limit:
                try:
                    raise WorkerLostError(head['why'])
                except WorkerLostError as error:
                    if request._retry_worker_lost(error, ExceptionInfo()):
                        return {'retried': True}
        return {}

    def on_failed(self, head, raw):
        """FAILURE for a reason outside the body: lost child, unknown task, refused content, too many attempts."""
        from billiard.einfo import ExceptionInfo
        message, request, body, headers = self.request(head, raw)
        exc = exception(head)
        django_tasks.give_up(headers, body, type(exc), str(exc))
        if request is None:
            name = headers['task']
            self.app.backend.mark_as_failure(headers['id'], exc, request=self.context(body, headers, message))
            if isinstance(exc, NotRegistered):
                signals.task_unknown.send(sender=self.consumer, message=message, exc=exc, name=name,
                                          id=headers['id'])
            return
        try:
            raise exc
        except type(exc):
            einfo = ExceptionInfo()
        text = head.get('trace')
        request.task.backend.mark_as_failure(request.id, exc, text, request=request._context,
                                             store_result=request.store_errors)
        request.task.request_stack.push(request._context)
        try:
            signals.task_failure.send(sender=request.task, task_id=request.id, exception=exc, args=request.args,
                                      kwargs=request.kwargs, traceback=einfo.traceback, einfo=einfo)
        finally:
            request.task.request_stack.pop()

    def context(self, body, headers, message):
        from celery.app.task import Context
        args, kwargs, embed = body
        return Context(dict(headers, args=args, kwargs=kwargs, hostname=self.worker.hostname,
                            delivery_info=dict(message.delivery_info), **(embed or {})))


def number(value):
    """1.0 as 1: it is part of a message that people see."""
    return int(value) if float(value).is_integer() else value


def exception(head):
    """The exception that is meant, of the class that clients know."""
    import celery.exceptions
    import kombu.exceptions
    known = (celery.exceptions, kombu.exceptions)
    if head.get('module') in ('celery.exceptions', 'kombu.exceptions', 'billiard.exceptions', 'builtins'):
        import builtins
        for module in known + (builtins,):
            kind = getattr(module, head['class'], None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                try:
                    return kind(head['message'])
                except Exception:
                    break
    from celery.utils.serialization import create_exception_cls
    return create_exception_cls(head['class'], head.get('module') or 'beacon')(head['message'])


class Quality:
    """consumer.qos: a number that commands read and change; Beacon fetches by free places."""

    def __init__(self, value):
        self.value = self.prev = value

    def increment_eventually(self, n=1):
        self.value += max(n, 0)
        return self.value

    def decrement_eventually(self, n=1):
        self.value = max(self.value - n, 1)
        return self.value

    def set(self, value):
        self.value = value
        return value

    def update(self):
        return self.value


class Dispatcher:
    """consumer.event_dispatcher: what a command sends goes out as the application's own event."""

    enabled = True

    def __init__(self, app, hostname, wish):
        self.app = app
        self.hostname = hostname
        self.groups = {'worker', 'task'}
        self._wish = wish

    def send(self, type, *args, **fields):
        fields.pop('retry', None)
        fields.pop('blind', None)
        self._wish({'wish': 'event', 'type': type, 'fields': export.plain(fields)})

    def enable(self):
        self.enabled = True

    def disable(self):
        self.enabled = False

    def flush(self, *args, **kwargs):
        pass


class TaskConsumer:
    """consumer.task_consumer: the queues, as far as commands look at them."""

    def __init__(self, app):
        self.app = app

    @property
    def queues(self):
        return list(self.app.amqp.queues.consume_from.values())

    def consuming_from(self, queue):
        name = getattr(queue, 'name', queue)
        return name in self.app.amqp.queues.consume_from
