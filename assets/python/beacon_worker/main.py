"""Starts the role that Beacon asked for, and tells it why if that fails."""
import faulthandler
import os
import sys
import traceback

from .channel import Channel, Closed


def run(sock, options):
    faulthandler.enable()
    channel = Channel(sock)
    os.register_at_fork(after_in_child=channel.forget)
    try:
        from . import application
        try:
            app = application.find(options)
            instance = application.worker(app, options)
            if options['role'] == 'clerk':
                from .clerk import Clerk
                role = Clerk(channel, app, instance, options)
            else:
                from .child import Child
                role = Child(channel, app, instance, options)
        except application.Unusable as error:
            return refuse(channel, str(error), None)
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            return refuse(channel, '%s: %s' % (type(error).__name__, error), traceback.format_exc())
        channel.send(*role.ready())
        role.serve()
    except (Closed, OSError):
        # Beacon has gone; there is nobody to tell.
        pass


def refuse(channel, why, trace):
    """The application cannot be used: says why, and ends."""
    sys.stderr.flush()
    channel.send({'t': 'unusable', 'why': why[:4000], 'trace': trace and trace[-16000:]})
    os._exit(1)
