"""A Django project: its own tasks on Beacon's queues. Its Celery application knows nothing of them."""

from .celery import app as celery_app

__all__ = ["celery_app"]
