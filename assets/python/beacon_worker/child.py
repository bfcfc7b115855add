"""A process that runs task bodies, one after the other in its main thread, coroutines beside that.

It is given a few messages ahead when tasks are short. Those that it has not begun can be taken back: Beacon writes a
frame and sends SIGURG, whose handler looks at the socket while a body runs. The soft time limit comes the same way, with
the number of the run, so that it cannot hit the next one.
"""
import os
import signal
import sys
import threading
import traceback
from time import monotonic

from billiard.common import _should_have_exited as ended_by_signal
from billiard.common import reset_signals
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from celery import signals
from celery.app import trace
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from celery.utils.log import get_logger
from celery.utils.saferepr import saferepr
from celery.utils.serialization import get_pickled_exception
from kombu.serialization import loads as loads_message
from kombu.utils.encoding import safe_repr, safe_str

from . import store
from .channel import Closed
from .coroutines import Coroutines
from .message import Delivery, shaped

logger = get_logger('celery.beacon')


def checked(body, content_type, content_encoding, accept=None):
    return shaped(loads_message(body, content_type, content_encoding, accept=accept))


class Child:
    def __init__(self, channel, app, instance, options):
        from celery.concurrency import prefork
        self.channel = channel
        self.app = app
        self.hostname = instance.hostname
        self.destructor = prefork.process_destructor
        #: The run in the main thread.
        self.run = None
        #: Runs of coroutines, by number.
        self.beside = {}
        #: A signal came while the main thread was busy with the socket.
        self.called = False
        self.last = False
        self.name_process(options.get('index') or 0)
        store.install(app, bool(options.get('hand_over')))
        self.coroutines = Coroutines(app)
        prefork.process_initializer(app, instance.hostname)
        if isinstance(sys.__stdout__, object) and hasattr(sys.__stdout__, 'reconfigure'):
            sys.__stdout__.reconfigure(line_buffering=True)
        # As in Celery's pool: a signal that ends the process raises SystemExit, so that `finally` runs in the body.
        reset_signals()
        signal.signal(signal.SIGUSR1, self.on_soft_signal)
        signal.signal(signal.SIGURG, self.on_call)
        # A call of the C library that a signal meets goes on.
        signal.siginterrupt(signal.SIGURG, False)

    @staticmethod
    def name_process(index):
        """As in Celery's pool: people format logs and pick ports by it."""
        import multiprocessing
        from billiard.process import current_process
        for process in (current_process(), multiprocessing.current_process()):
            process.name = 'ForkPoolWorker-%d' % (index + 1)
            process.index = index

    def ready(self):
        return ({'t': 'ready', 'pid': os.getpid()},)

    # -- what comes in

    def serve(self):
        channel = self.channel
        try:
            while True:
                channel.reading = True
                if self.called:
                    self.called = False
                    channel.look()
                self.answer_calls()
                head, body = channel.take()
                kind = head['t']
                if kind == 'run':
                    if head.get('beside'):
                        self.begin_beside(head, body)
                    else:
                        self.perform(head, body)
                elif kind == 'exit':
                    break
                else:
                    self.order(head)
        finally:
            channel.reading = True
            self.coroutines.stop()
            self.end()

    def answer_calls(self):
        """Obeys what must not wait behind messages."""
        frames = self.channel.frames
        if len(frames) < 2 and not (frames and frames[0][0]['t'] != 'run'):
            return
        orders = [frame for frame in frames if frame[0]['t'] not in ('run', 'exit')]
        if orders:
            rest = [frame for frame in frames if frame[0]['t'] in ('run', 'exit')]
            frames.clear()
            frames.extend(rest)
            for head, _ in orders:
                self.order(head)

    def order(self, head):
        kind = head['t']
        if kind == 'ping':
            self.channel.send({'t': 'pong', 'n': head['n']})
        elif kind == 'drop':
            self.drop(set(head['n']))
        elif kind == 'soft':
            self.soft(head['n'])
        elif kind == 'stop':
            run = self.beside.get(head['n'])
            if run is not None:
                self.coroutines.stop_run(run)

    def drop(self, numbers):
        frames = self.channel.frames
        kept, dropped = [], []
        for frame in frames:
            number = frame[0].get('n')
            if frame[0]['t'] == 'run' and number in numbers:
                dropped.append(number)
            else:
                kept.append(frame)
        if dropped:
            frames.clear()
            frames.extend(kept)
            self.channel.send({'t': 'dropped', 'n': dropped})

    def soft(self, number):
        run = self.beside.get(number)
        if run is not None:
            self.coroutines.soft(run)
            return
        run = self.run
        if run is not None and run.number == number and not run.ending:
            raise SoftTimeLimitExceeded()

    def on_call(self, signum, frame):
        """SIGURG: there is something on the socket that cannot wait until the body has ended."""
        if self.channel.reading:
            self.called = True
            return
        try:
            self.channel.look()
        except (Closed, OSError):
            return
        for head, body in [frame for frame in self.channel.frames if frame[0].get('beside')]:
            self.channel.frames.remove((head, body))
            self.begin_beside(head, body)
        self.answer_calls()

    def on_soft_signal(self, signum, frame):
        """SIGUSR1, as people send it by hand to a process of Celery's pool."""
        run = self.run
        if run is not None and not run.ending:
            raise SoftTimeLimitExceeded()

    # -- running

    def begin_beside(self, head, body):
        """A coroutine: traced in a thread of its own, run in the one loop."""
        def perform():
            self.perform_here(head, body)
        threading.Thread(target=perform, name='beacon-%d' % head['n'], daemon=True).start()

    def perform(self, head, raw):
        channel = self.channel
        try:
            self.perform_here(head, raw, main=True)
        except SoftTimeLimitExceeded:
            # It came between the end and its report; the report says what happened.
            logger.debug('A soft time limit came too late for its task')
        finally:
            channel.reading = True

    def perform_here(self, head, raw, main=False):
        number = head['n']
        delivery = run = None
        leaving = None
        started = monotonic()
        try:
            delivery = Delivery(raw, head, self.hostname)
            name, id = delivery.headers['task'], delivery.headers['id']
            if delivery.problem is not None:
                raise delivery.problem
            task = self.app.tasks[name]
            run = store.Run(id, task, number)
            store.enter(run)
            if main:
                self.run = run
                self.channel.reading = False
            else:
                self.beside[number] = run
                self.channel.send({'t': 'begun', 'n': number})
            failed, value, _ = trace.fast_trace_task(
                name, id, delivery.request, delivery.body, delivery.content_type, delivery.content_encoding,
                loads=checked)
            self.channel.reading = True if main else self.channel.reading
            report = self.failure(delivery, run, value) if failed else self.success(run, value)
        except (SystemExit, KeyboardInterrupt) as error:
            if ended_by_signal[0]:
                # Not the body's own: it is unfinished, and Beacon sees the process end.
                raise
            leaving = error
            report = {'s': 'lost', 'exit': status_of(error)}
        except BaseException as error:  # what Celery's parent process would be told
            if ended_by_signal[0]:
                raise SystemExit(1)
            if main:
                self.channel.reading = True
            report = self.outside(delivery, run, error)
        finally:
            if main:
                self.run = None
                self.channel.reading = True
            else:
                self.beside.pop(number, None)
            store.leave()
        report.update(t='done', n=number, rt=monotonic() - started)
        kept = run.kept if run is not None else None
        value = b''
        if kept is not None and leaving is None:
            state, value = kept
            report['state'] = state
            if isinstance(value, str):
                value = value.encode()
        self.channel.send(report, bytes(value))
        if leaving is not None:
            if main:
                raise SystemExit(status_of(leaving))
            # A thread cannot end the process by raising.
            os._exit(status_of(leaving) & 0xff)

    @staticmethod
    def success(run, value):
        return {'s': 'ok', 'repr': value if isinstance(value, str) else '' if value is None else safe_repr(value)}

    def failure(self, delivery, run, einfo):
        """Celery's tracer gave an ExceptionInfo: what celery.worker.request.Request.on_failure makes of it."""
        exc = einfo.exception
        if isinstance(exc, ExceptionWithTraceback):
            exc = exc.exc
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            raise exc
        if isinstance(exc, Reject):
            if exc.requeue:
                return {'s': 'reject', 'requeue': True}
            # Since 5.7 this is a failure: the message never comes again, and somebody may wait for it.
            self.record_failure(delivery, run, exc, einfo, store_traceback=False)
            return dict(described(exc, einfo.traceback), s='fail')
        if isinstance(exc, Ignore):
            # The words of Task.replace; the new message has the same identifier.
            return {'s': 'replaced' if exc.args == ('Replaced by new task',) else 'ignore'}
        if isinstance(exc, Retry):
            return dict(described(exc.exc if exc.exc is not None else exc, einfo.traceback), s='retry',
                        repr=safe_repr(exc.exc))
        report = dict(described(exc, einfo.traceback), s='fail')
        if isinstance(exc, MemoryError):
            report['last'] = True
        return report

    def outside(self, delivery, run, error):
        """An exception outside the body: the message cannot be read, or Celery's tracer itself failed."""
        einfo = ExceptionInfo()
        logger.error('Task handler raised error: %r', error, exc_info=True)
        exc = error
        if isinstance(exc, Reject):
            return {'s': 'reject', 'requeue': bool(exc.requeue)}
        try:
            self.record_failure(delivery, run, exc, einfo)
        except Exception as second:
            logger.error('The failure could not be recorded: %r', second, exc_info=True)
        report = dict(described(exc, einfo.traceback), s='fail', outside=True)
        if isinstance(exc, MemoryError):
            report['last'] = True
        return report

    def record_failure(self, delivery, run, exc, einfo, store_traceback=True):
        """A failure that the tracer did not store."""
        if delivery is None:
            return
        try:
            args, kwargs, embed = delivery.content(trace._localized[1] if trace._localized else None)
        except Exception:
            args, kwargs, embed = [], {}, {}
        request = Context(dict(delivery.request, args=args, kwargs=kwargs, is_eager=False, **embed))
        task = self.app.tasks.get(delivery.headers['task'])
        backend = task.backend if task is not None else self.app.backend
        ignored = request.__dict__.get('ignore_result')
        if ignored is None:
            ignored = task is not None and task.ignore_result
        store_errors = not ignored or (task is not None and task.store_errors_even_if_ignored)
        text = einfo.traceback if store_traceback else None
        try:
            backend.mark_as_failure(request.id, exc, text, request=request, store_result=store_errors)
        except Exception as second:
            # Headers of a wrong type may be why: whoever waits for the task is told all the same.
            logger.error('The failure could not be recorded whole: %r', second, exc_info=True)
            backend.mark_as_failure(request.id, exc, text, store_result=store_errors)
        if task is not None:
            signals.task_failure.send(sender=task, task_id=request.id, exception=exc, args=args, kwargs=kwargs,
                                      traceback=einfo.traceback, einfo=einfo)

    # -- the end

    def end(self):
        """As Celery's pool does when a process ends of its own accord."""
        if self.last:
            return
        self.last = True
        self.destructor(os.getpid(), 0)
        sys.stdout.flush()
        sys.stderr.flush()


def described(exc, text):
    """An exception for events and logs."""
    exc = get_pickled_exception(exc)
    kind = type(exc)
    try:
        message = str(exc)
    except Exception:
        message = safe_repr(exc)
    return {
        'class': getattr(kind, '__qualname__', kind.__name__),
        'module': kind.__module__,
        'message': message[:8192],
        'repr': safe_repr(exc)[:8192],
        'trace': safe_str(text) if text is not None else None,
    }


def status_of(error):
    code = error.code if isinstance(error, SystemExit) else 1
    return 0 if code is None else code if isinstance(code, int) else 1
