"""A pytest plugin: Celery's integration tests against a worker that is a process of its own.

`-p external_worker` loads it before conftest.py takes the fixture `celery_session_worker` from celery.contrib.pytest, so
that it takes ours. The tests look for a worker by the name `anon_nodename()`, which has the number of their own process:
the worker gets it with -n.
"""

import os
import shlex
import subprocess
import time

import celery.contrib.pytest as fixtures
import pytest
from celery.result import _set_task_join_will_block
from celery.utils.nodenames import anon_nodename

pytest_plugins = ["celery.contrib.pytest"]

START = 60.0  # seconds that a worker may take until it answers


@pytest.fixture(scope="session")
def celery_session_worker(celery_session_app, celery_includes, celery_class_tasks):
    """Starts the worker of the environment's SUITE_WORKER, and stops it in the end."""
    app = celery_session_app
    for module in celery_includes:
        app.loader.import_task_module(module)
    for task in celery_class_tasks:
        app.register_task(task)
    node = anon_nodename()
    command = [*shlex.split(os.environ["SUITE_WORKER"]), "-n", node]
    with open(os.environ["SUITE_LOG"], "ab") as log:
        worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START
            while not app.control.inspect(destination=[node], timeout=1).ping():
                assert worker.poll() is None, f"the worker has ended with {worker.returncode}"
                assert time.monotonic() < deadline, "the worker does not answer a ping"
            yield worker
            assert worker.poll() is None, f"the worker has ended during the tests with {worker.returncode}"
        finally:
            worker.terminate()
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


@pytest.fixture(autouse=True)
def nobody_waits_in_a_task():
    """Some tests build workers in this process, which then takes itself for one and refuses to wait for results."""
    _set_task_join_will_block(False)


fixtures.celery_session_worker = celery_session_worker
