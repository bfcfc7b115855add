"""An application as a team has it: nothing in here knows which worker runs it."""

from .celery import app

__all__ = ["app"]
