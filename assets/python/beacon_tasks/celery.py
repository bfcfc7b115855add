"""A Celery application for a project that has Django's tasks and no application of its own: celery_app = "beacon_tasks".

DJANGO_SETTINGS_MODULE names the settings. Those that begin with CELERY_ are Celery's, as in every project.
"""
from celery import Celery
from django.conf import settings
from django.tasks import task_backends

from .backend import BeaconBackend
from .run import register

app = Celery('django')
app.config_from_object('django.conf:settings', namespace='CELERY')


def configure():
    found = [backend for backend in map(task_backends.__getitem__, task_backends)
             if isinstance(backend, BeaconBackend)]
    if found and not hasattr(settings, 'CELERY_BROKER_URL'):
        app.conf.broker_url = found[0].url
    if found and not hasattr(settings, 'CELERY_BROKER_TRANSPORT_OPTIONS'):
        app.conf.broker_transport_options = dict(found[0].options.get('transport_options') or {})


configure()
app.autodiscover_tasks()
register(app)
