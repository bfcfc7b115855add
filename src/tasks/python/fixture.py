"""The application of the tests."""
import asyncio, os, signal, sys, time
from celery import Celery, chain, chord, group, signals
from celery.backends.redis import RedisBackend
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.control import control_command, inspect_command, add_consumer, cancel_consumer

URL = os.environ['TEST_REDIS']
BACKEND = 'wapp.Derived+' + URL if os.environ.get('DERIVED') else URL
app = Celery('wapp', broker=URL, backend=BACKEND)
app.conf.result_extended = bool(os.environ.get('EXTENDED'))
app.conf.beat_schedule = {'each': {'task': 'wapp.add', 'schedule': 30.0, 'args': (1, 2)}}

@app.task
def add(x, y): return x + y
@app.task
def noop(): pass
@app.task(ignore_result=True)
def quiet(): pass
@app.task
def boom(text): raise ValueError(text)
@app.task
def nap(seconds):
    time.sleep(seconds); return seconds
@app.task
def stubborn(seconds):
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return 'soft'
@app.task(bind=True, max_retries=2)
def again(self, countdown=0):
    raise self.retry(exc=KeyError('no'), countdown=countdown)
@app.task(bind=True)
def who(self):
    return [self.request.id, self.request.hostname, self.request.delivery_info, self.request.retries, self.name, os.getpid()]
@app.task
def die(sig=9):
    os.kill(os.getpid(), sig); time.sleep(5)
@app.task
def leave(code):
    sys.exit(code)
@app.task(acks_late=True)
def refuse(requeue): raise Reject('no', requeue=requeue)
@app.task
def ignore(): raise Ignore()
@app.task(bind=True)
def replace(self): raise self.replace(add.s(20, 22))
@app.task(bind=True)
def progress(self):
    self.update_state(state='PROGRESS', meta={'done': 1}); return 1
@app.task
def total(values): return sum(values)
@app.task
def say(text):
    print(text); return text
@app.task(bind=True)
async def aadd(self, x, y, pause=0.01):
    await asyncio.sleep(pause)
    return [x + y, self.request.id, self.app.current_task is not None and self.app.current_task.name]
@app.task(bind=True)
async def anap(self, seconds):
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return 'soft ' + self.request.id
    return seconds
@app.task(bind=True, autoretry_for=(ValueError,), max_retries=1, default_retry_delay=0)
async def aboom(self):
    await asyncio.sleep(0); raise ValueError('async')
@control_command(args=[('n', int)])
def bump(state, n=1):
    state.consumer.qos.increment_eventually(n); return {'ok': 'prefetch count incremented'}
@inspect_command()
def current(state):
    return {'prefetch_count': state.consumer.qos.value, 'host': state.hostname}
@control_command(args=[('queue', str)])
def addcancel(state, queue, **kw):
    add_consumer(state, queue); cancel_consumer(state, queue); return {'scheduled': queue}
@inspect_command()
def pending(state): return len(state.consumer._pending_operations)
@control_command()
def fails(state): raise RuntimeError('bad')


@app.task
def tidy(path):
    try:
        time.sleep(30)
    finally:
        open(path, 'w').close()


@app.task
def eat(size):
    return len(bytearray(size))


@inspect_command()
def hang(state, seconds):
    time.sleep(seconds)


class Derived(RedisBackend):
    """A backend of the application's own, which stores in its own way."""

    def _store_result(self, task_id, *args, **kwargs):
        self.client.set('derived-' + task_id, 1, ex=60)
        return super()._store_result(task_id, *args, **kwargs)


SEEN = []


@signals.celeryd_init.connect
def on_init(sender, instance, conf, **kwargs):
    SEEN.append(['celeryd_init', sender, type(instance).__name__])


@signals.worker_init.connect
def on_worker_init(sender, **kwargs):
    SEEN.append(['worker_init', sender.hostname])


@signals.worker_process_init.connect
def on_process_init(**kwargs):
    SEEN.append(['worker_process_init'])


@app.task
def seen():
    return SEEN
