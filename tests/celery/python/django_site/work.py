"""Django's tasks."""
import asyncio
import os
import signal
import sys
import time

import redis
from django.tasks import task


def effects():
    return redis.Redis.from_url(os.environ["PROJ_EFFECTS"])


@task
def add(x, y=0):
    return x + y


@task
async def aadd(x, y):
    await asyncio.sleep(0)
    return x + y


@task(takes_context=True)
def context(context, key):
    result = context.task_result
    return [context.attempt, result.status, result.args, key]


@task
def boom(text):
    raise ValueError(text)


@task
def leave():
    sys.exit(3)


@task
def no_json():
    return object()


@task
def trace(key, word):
    effects().rpush(key, word)


@task
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@task
def nap(key, seconds):
    effects().rpush(key, os.getpid())
    time.sleep(seconds)


nap_briefly = nap.using(backend="short")
add_soon = add.using(backend="brief")
add_after_commit = add.using(backend="commit")
