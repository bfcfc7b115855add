"""Finds the application and brings it to where Celery's own pool process would have it.

Celery's pool forks, so that whatever the handlers of worker_init, celeryd_init and celeryd_after_setup did in the parent
is there in each child too. Here every process is a new one; so each of them goes through the parent's beginning first,
with Celery's own Worker object, which is made and never started.
"""
import os
import sys


class Unusable(Exception):
    """The application cannot be loaded; the text is for the operator."""


def find(options):
    """What `celery -A` finds, with its other global options."""
    for name, value in (('CELERY_LOADER', 'loader'), ('CELERY_BROKER_URL', 'broker'),
                        ('CELERY_RESULT_BACKEND', 'result_backend'), ('CELERY_CONFIG_MODULE', 'config')):
        if options.get(value):
            os.environ[name] = options[value]
    if options.get('skip_checks'):
        os.environ['CELERY_SKIP_CHECKS'] = 'true'
    directory = options.get('directory')
    if directory:
        os.chdir(directory)
    # `-c` puts '' there, which would follow a later chdir; celery adds the working directory.
    here = os.getcwd()
    sys.path[:] = [here] + [path for path in sys.path if path not in ('', here)]
    name = options.get('app') or os.environ.get('CELERY_APP') or ''
    sys.argv[:] = [os.path.join(os.path.dirname(sys.executable or ''), 'celery')] + list(options.get('argv') or ())
    try:
        import celery
    except ImportError as error:
        raise Unusable('Celery cannot be imported by %s: %s' % (sys.executable, error))
    version = tuple(int(part) for part in celery.__version__.split('.')[:2] if part.isdigit())
    if version < (5, 3):
        raise Unusable('Celery %s is too old: 5.3 is the first that Beacon knows' % celery.__version__)
    if not name:
        return celery.current_app._get_current_object()
    from celery.app.utils import find_app
    try:
        app = find_app(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise Unusable('there is no module %r in %s or on the import path' % (error.name, here))
    except AttributeError as error:
        raise Unusable('%r has no Celery application: %s' % (name, error))
    if not isinstance(app, celery.Celery):
        raise Unusable('%r is a %s, and no Celery application' % (name, type(app).__name__))
    return app


def worker(app, options):
    """Celery's Worker for this application, as its beginning leaves it: settings read, modules imported, signals sent."""
    from celery import signals
    from celery.utils.nodenames import host_format, default_nodename
    hostname = options['node'] or host_format(default_nodename(None))
    given = {
        'hostname': hostname,
        'loglevel': options.get('loglevel') or 'WARNING',
        'logfile': options.get('logfile') or None,
        'concurrency': options.get('concurrency') or 1,
        'queues': options.get('queues') or None,
        'exclude_queues': options.get('exclude_queues') or None,
        'include': options.get('include') or None,
        'task_events': options.get('events'),
        'time_limit': options.get('time_limit'),
        'soft_time_limit': options.get('soft_time_limit'),
        'no_color': True,
        'quiet': True,
        # Its hub would be one process's event loop; nothing runs it here.
        'use_eventloop': False,
    }
    # Always as if forked: Django's part of Celery closes connections by the kind of pool.
    instance = app.Worker(pool='prefork', **{name: value for name, value in given.items() if value is not None})
    signals.celeryd_after_setup.send(sender=hostname, instance=instance, conf=app.conf)
    from . import django_tasks
    django_tasks.install(app, options)
    if not instance._custom_logging and instance.redirect_stdouts:
        app.log.redirect_stdouts(instance.redirect_stdouts_level)
    return instance
