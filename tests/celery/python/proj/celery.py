"""The Celery application."""

import os

from celery import Celery
from celery.worker.control import control_command, inspect_command

app = Celery("proj", broker=os.environ["PROJ_BROKER"], backend=os.environ["PROJ_RESULTS"], include=["proj.tasks"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": float(os.environ.get("PROJ_VISIBILITY", "3600"))},
    result_extended=True,
    worker_log_color=False,
)


# Here, because `celery inspect` and `celery control` import this module and not the tasks.
@inspect_command()
def weather(state, **_):
    return {"weather": "fine"}


@control_command(args=[("factor", int)], signature="[N=1]")
def double(state, factor=1, **_):
    return {"ok": f"doubled {int(factor) * 2}"}
