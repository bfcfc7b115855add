"""No more than tasks need."""
import os

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["django_site"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = os.environ["PROJ_BROKER"]
CELERY_RESULT_BACKEND = os.environ["PROJ_RESULTS"]

_backend = {"BACKEND": "beacon_tasks.BeaconBackend", "QUEUES": ["default", "mail"]}
TASKS = {
    "default": dict(_backend, OPTIONS={"queue_names": {"default": "django"}}),
    "short": dict(_backend, OPTIONS={"queue_names": {"default": "django"}, "time_limit": 1}),
    "brief": dict(_backend, OPTIONS={"queue_names": {"default": "django"}, "expires": 0.5}),
    "commit": dict(_backend, OPTIONS={"queue_names": {"default": "django"}, "on_commit": True}),
}
