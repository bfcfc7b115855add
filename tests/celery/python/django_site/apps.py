"""Notes the signals of tasks, each where it is sent."""
import os

import redis
from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "django_site"

    def ready(self):
        from django.tasks import signals
        for name in ("task_enqueued", "task_started", "task_finished"):
            getattr(signals, name).connect(note(name), weak=False)


def note(name):
    def noted(sender, task_result, **kwargs):
        redis.Redis.from_url(os.environ["PROJ_EFFECTS"]).rpush(
            "signals-" + task_result.id, "%s %s %s" % (name, sender.__name__, task_result.status))
    return noted
