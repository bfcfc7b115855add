"""Sends a task N times with the numbers 0 to N-1, each exactly once whatever becomes of the connection meanwhile.

    producer.py TASK N SECONDS    spreads them over so many seconds

The messages are those that Celery's client makes. They are put on the queue by a script that also remembers their numbers,
so that a push whose answer was lost is not done twice: what is counted are the worker's faults alone.
"""

import base64
import json
import sys
import time
import uuid

import redis
from kombu.serialization import dumps

from proj import app

PUSH = "if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then redis.call('LPUSH', KEYS[1], ARGV[2]) end return 1"


def message(task, args, queue="celery", **options):
    """A message as it lies on the list."""
    task_id = str(uuid.uuid4())
    made = app.amqp.as_task_v2(task_id, task, args=args, kwargs={}, **options)
    content_type, encoding, body = dumps(made.body, serializer="json")
    properties = {
        **made.properties,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    envelope = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": encoding,
        "content-type": content_type,
        "headers": made.headers,
        "properties": properties,
    }
    return json.dumps(envelope)


def main():
    task, number, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    client = redis.Redis.from_url(app.conf.broker_url, socket_timeout=2, socket_connect_timeout=2)
    begun = time.monotonic()
    for start in range(0, number, 50):
        pieces = [(each, message(task, [each])) for each in range(start, min(start + 50, number))]
        while True:
            try:
                pipeline = client.pipeline(transaction=False)
                for each, text in pieces:
                    pipeline.eval(PUSH, 2, "celery", "published", each, text)
                pipeline.execute()
                break
            except redis.RedisError:
                time.sleep(0.1)
        time.sleep(max(0.0, begun + seconds * start / number - time.monotonic()))


if __name__ == "__main__":
    main()
