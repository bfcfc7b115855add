"""Tasks that are `async def`: many at once in one loop.

Celery's tracer is no coroutine. Each such task is traced in a thread that waits; the body runs in the loop's thread. What
Celery keeps by thread (the task's request, current_task) is found there too, by a context variable that carries the
number of the tracing thread.
"""
import asyncio
import contextvars
import functools
import inspect
import threading

from celery import _state
from celery.exceptions import SoftTimeLimitExceeded

from . import store

_tracing = contextvars.ContextVar('beacon_tracing', default=None)


def ident(get=_tracing.get, own=threading.get_ident):
    return get() or own()


class Stopped(BaseException):
    """The task is ended from outside (revoke with terminate)."""


class Driver:
    """Runs a coroutine, and turns the loop's cancellation into the exception that is meant."""

    def __init__(self, coroutine):
        self.coroutine = coroutine
        self.thrown = None
        self.future = None

    def __await__(self):
        coroutine = self.coroutine
        step, value = coroutine.send, None
        while True:
            try:
                waited = step(value)
            except StopIteration as end:
                return end.value
            try:
                value = yield waited
                step = coroutine.send
            except asyncio.CancelledError as cancelled:
                thrown, self.thrown = self.thrown, None
                step, value = coroutine.throw, thrown if thrown is not None else cancelled
            except BaseException as error:
                step, value = coroutine.throw, error

    async def run(self):
        return await self


class Coroutines:
    def __init__(self, app):
        self._loop = None
        self._lock = threading.Lock()
        for stack in [_state._task_stack] + [task.request_stack for task in app.tasks.values()]:
            # With USE_FAST_LOCALS the stack is a plain thread-local: then a coroutine has no request.
            if hasattr(stack, '_local'):
                stack.__ident_func__ = ident
        for task in app.tasks.values():
            # Under autoretry_for, `run` is Celery's, and the body is beneath it.
            name = '_orig_run' if is_coroutine(getattr(task, '_orig_run', None)) else 'run'
            body = getattr(task, name)
            if is_coroutine(body):
                setattr(task, name, self.wrap(body))

    def wrap(self, body):
        @functools.wraps(body)
        def run(*args, **kwargs):
            if self._loop is not None and threading.get_ident() == self._thread.ident:
                # A coroutine calls another task: it awaits what it gets.
                return body(*args, **kwargs)
            return self.wait(body(*args, **kwargs))
        return run

    def wait(self, coroutine):
        driver = Driver(coroutine)
        loop = self.loop()
        token = _tracing.set(ident())
        run = store.current()
        try:
            future = asyncio.run_coroutine_threadsafe(self.drive(driver), loop)
            if run is not None:
                run.waiter = driver
            return future.result()
        finally:
            if run is not None:
                run.waiter = None
            _tracing.reset(token)

    @staticmethod
    async def drive(driver):
        driver.future = asyncio.current_task()
        return await driver

    def loop(self):
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._turn, name='beacon-loop', daemon=True)
                self._thread.start()
            return self._loop

    def _turn(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _throw(self, run, error):
        driver, loop = run.waiter, self._loop
        if driver is None or loop is None:
            return

        def cancel():
            if driver.future is not None and not driver.future.done():
                driver.thrown = error
                driver.future.cancel()
        loop.call_soon_threadsafe(cancel)

    def soft(self, run):
        self._throw(run, SoftTimeLimitExceeded())

    def stop_run(self, run):
        self._throw(run, Stopped('terminated'))

    def stop(self):
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


def is_coroutine(body):
    return inspect.iscoroutinefunction(body) or inspect.iscoroutinefunction(getattr(body, '__call__', None))
