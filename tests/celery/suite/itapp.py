"""The application of Celery's integration tests, for a worker in another process than the tests'.

The settings are those of t/integration/conftest.py and of celery.contrib.testing.app, which that one builds upon.
"""

import os

from celery import Celery

app = Celery(
    "celery.tests",
    broker=os.environ["TEST_BROKER"],
    backend=os.environ["TEST_BACKEND"],
    include=["t.integration.tasks", "celery.contrib.testing.tasks"],
)
app.conf.update(
    worker_hijack_root_logger=False,
    worker_log_color=False,
    accept_content={"json"},
    enable_utc=True,
    timezone="UTC",
    broker_heartbeat=0,
    result_extended=True,
    task_create_missing_queues=False,
)


@app.on_after_finalize.connect
def register(sender, **_):
    from t.integration.tasks import ClassBasedAutoRetryTask

    sender.register_task(ClassBasedAutoRetryTask)
