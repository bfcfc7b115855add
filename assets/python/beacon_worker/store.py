"""Keeps a task's last result back, so that Beacon writes it in the same round trip as the acknowledgement.

Only what Celery's tracer stores at the end, and only where nobody could look for it before that: chords, errbacks, the
rest of a chain and handlers of the application that run after the end need it written at once. States that the body sets
itself are always written by Celery.
"""
import threading

#: Modules whose handlers observe, and hand nothing on that would make somebody look for the result.
OBSERVERS = ('celery.', 'opentelemetry.', 'sentry_sdk.', 'ddtrace.', 'newrelic.', 'elasticapm.', 'django_structlog.')

_here = threading.local()


class Run:
    """One run of a body."""

    __slots__ = ('id', 'task', 'number', 'ending', 'keep', 'kept', 'waiter')

    def __init__(self, id, task, number):
        self.id = id
        self.task = task
        self.number = number
        #: The body has ended: the soft limit no longer applies.
        self.ending = False
        #: Whether what is stored next may be kept back.
        self.keep = False
        #: (state, value) that is kept back.
        self.kept = None
        #: What waits for a coroutine of it.
        self.waiter = None


def enter(run):
    _here.run = run


def leave():
    _here.run = None


def current():
    return getattr(_here, 'run', None)


def watched(signal):
    """Whether the application has a handler of its own on the signal."""
    for _, receiver in signal.receivers or ():
        target = receiver() if isinstance(receiver, _REFERENCES) else receiver
        if target is None:
            continue
        module = getattr(target, '__module__', None) or ''
        if not module.startswith(OBSERVERS):
            return True
    return False


def install(app, hand_over):
    """Puts itself between Celery's tracer and the result backend."""
    global _REFERENCES
    import weakref
    from celery import signals
    from celery.app.trace import task_has_custom
    from celery.backends.base import Backend
    _REFERENCES = (weakref.ReferenceType, weakref.WeakMethod)
    # A backend of another class stores in its own way, and may be derived from the one that is intercepted.
    hand_over = hand_over and reachable(app) is not None

    def custom(task, *names):
        return any(task_has_custom(task, name) for name in names)

    done, failure, retry = Backend.mark_as_done, Backend.mark_as_failure, Backend.mark_as_retry

    def mark_as_done(self, task_id, result, request=None, *args, **kwargs):
        run = current()
        if run is not None and task_id == run.id:
            run.ending = True
            run.keep = hand_over and request is not None and not request.chord and not (
                watched(signals.task_success) or watched(signals.task_postrun)
                or custom(run.task, 'on_success', 'after_return'))
            try:
                return done(self, task_id, result, request, *args, **kwargs)
            finally:
                run.keep = False
        return done(self, task_id, result, request, *args, **kwargs)

    def mark_as_failure(self, task_id, exc, traceback=None, request=None, *args, **kwargs):
        run = current()
        if run is not None and task_id == run.id:
            run.ending = True
            run.keep = hand_over and request is not None and not (
                request.chord or request.chain or request.errbacks
                or watched(signals.task_failure) or watched(signals.task_postrun)
                or custom(run.task, 'on_failure', 'after_return'))
            try:
                return failure(self, task_id, exc, traceback, request, *args, **kwargs)
            finally:
                run.keep = False
        return failure(self, task_id, exc, traceback, request, *args, **kwargs)

    def mark_as_retry(self, task_id, *args, **kwargs):
        # Always written at once: the next try may end before this one is told of.
        run = current()
        if run is not None and task_id == run.id:
            run.ending = True
        return retry(self, task_id, *args, **kwargs)

    Backend.mark_as_done = mark_as_done
    Backend.mark_as_retry = mark_as_retry
    Backend.mark_as_failure = mark_as_failure
    if hand_over:
        intercept(app)


def reachable(app):
    """What Beacon needs to know to write results itself: a Redis backend as Celery made it. None if it is another one."""
    try:
        from celery.backends.redis import RedisBackend
    except ImportError:
        return None
    backend = app.backend
    if type(backend) is not RedisBackend:
        return None
    prefix = backend.task_keyprefix
    parameters = backend.connparams
    if parameters.get('credential_provider'):
        # Passwords that a program makes are no part of an address.
        return None
    return {
        'url': backend.url or address(parameters),
        'prefix': prefix.decode() if isinstance(prefix, bytes) else prefix,
        'expires': backend.expires or 0,
    }


def address(parameters):
    """The address that the older settings (redis_host and so on) make together."""
    from urllib.parse import quote
    user, password = parameters.get('username') or '', parameters.get('password') or ''
    login = '%s:%s@' % (quote(user, ''), quote(password, '')) if user or password else ''
    if parameters.get('path'):
        return 'socket://%s%s?virtual_host=%s' % (login, parameters['path'], parameters.get('db') or 0)
    return 'redis://%s%s:%s/%s' % (login, parameters.get('host') or 'localhost', parameters.get('port') or 6379,
                                   parameters.get('db') or 0)


def intercept(app):
    from celery.backends.redis import RedisBackend
    from celery import states
    from redis.exceptions import ConnectionError, TimeoutError
    from kombu.utils.encoding import bytes_to_str
    ours = app.backend
    kept_states = {states.SUCCESS}
    # A failure with a time to live of its own is Celery's to write.
    if getattr(ours, 'failure_expires', ours.expires) == ours.expires:
        kept_states.add(states.FAILURE)
    store, load = RedisBackend._store_result, RedisBackend._get_task_meta_for
    biggest = getattr(RedisBackend, '_MAX_STR_VALUE_SIZE', 536870912)

    def same(backend):
        return backend is ours or (type(backend) is RedisBackend and backend.url == ours.url
                                   and backend.task_keyprefix == ours.task_keyprefix
                                   and backend.expires == ours.expires)

    def _store_result(self, task_id, result, state, traceback=None, request=None, **kwargs):
        run = current()
        if run is None or task_id != run.id or state not in kept_states or not same(self):
            return store(self, task_id, result, state, traceback=traceback, request=request, **kwargs)
        if not run.keep:
            try:
                return store(self, task_id, result, state, traceback=traceback, request=request, **kwargs)
            except (ConnectionError, TimeoutError):
                # Celery would call a task failed that has done its work. Beacon writes it when Redis is there again; a
                # chord or a chain that cannot be told now still fails, as it does there.
                if not run.ending:
                    raise
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta['task_id'] = bytes_to_str(task_id)
        value = self.encode(meta)
        if len(value) > biggest:
            return store(self, task_id, result, state, traceback=traceback, request=request, **kwargs)
        run.kept = (state, value)
        return result

    def _get_task_meta_for(self, task_id):
        # Who asks in this process sees what will be there.
        run = current()
        if run is not None and run.kept is not None and task_id == run.id and same(self):
            return self.decode_result(run.kept[1])
        return load(self, task_id)

    RedisBackend._store_result = _store_result
    RedisBackend._get_task_meta_for = _get_task_meta_for
