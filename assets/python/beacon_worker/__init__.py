"""Beacon's side inside a Celery application's own interpreter.

Two roles: a *child* runs task bodies, by Celery's own tracer; the one *clerk* tells Beacon what the application is,
answers its remote-control commands, and records ends that were decided outside a body. Python 3.8 and later, Celery 5.3
to 5.7, and nothing that the application does not have installed.
"""
