"""Django's own tasks (django.tasks, Django 6 and later) on the queues that Beacon works on.

Copy this folder into the project, or put its parent on the import path, and set:

    TASKS = {'default': {'BACKEND': 'beacon_tasks.BeaconBackend', 'QUEUES': ['default', 'mail'], 'OPTIONS': {
        'url': 'redis://localhost:6379/0',  # CELERY_BROKER_URL if absent
    }}}

The process that enqueues needs redis-py and no Celery. What runs the tasks is Beacon with the project's Celery
application or, for a project that has none, with the one in here: celery_app = "beacon_tasks". The options are
described in backend.py.
"""
from .backend import BeaconBackend

__all__ = ['BeaconBackend']
