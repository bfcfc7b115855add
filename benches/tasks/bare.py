"""An application with no handlers of signals, as most are: with a handler on task_postrun every result is written at once
by Celery itself, by either worker. tests/celery/python/proj has such handlers."""

import os
import time

from celery import Celery

app = Celery("bare", broker=os.environ["PROJ_BROKER"], backend=os.environ["PROJ_RESULTS"])
app.conf.update(broker_connection_retry_on_startup=True, worker_log_color=False)


@app.task
def nothing():
    pass


@app.task(ignore_result=True)
def nothing_kept():
    pass


@app.task
def now():
    return time.time()
