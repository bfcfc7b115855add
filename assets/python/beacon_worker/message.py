"""A message as Celery's worker would hand it to a pool process."""
import base64
import json

from kombu.compression import decompress
from kombu.utils.encoding import safe_repr


class Delivery:
    """One message: the request's dictionary, and the content that is still serialised."""

    __slots__ = ('request', 'body', 'content_type', 'content_encoding', 'headers', 'properties', 'delivery_info',
                 'problem')

    def __init__(self, raw, head, hostname):
        message = json.loads(raw)
        properties = message.get('properties') or {}
        headers = message.get('headers') or {}
        body = message.get('body')
        if properties.get('body_encoding') == 'base64':
            body = base64.b64decode(body)
        #: Why the content cannot be unpacked: for whoever runs the task, which must fail and not only be logged.
        self.problem = None
        compression = headers.get('compression')
        if compression:
            try:
                body = decompress(body, compression)
            except Exception as error:
                if 'task' not in headers or 'id' not in headers:
                    raise
                self.problem = error
        self.content_type = message.get('content-type')
        self.content_encoding = message.get('content-encoding')
        self.properties = properties
        self.delivery_info = info = properties.get('delivery_info') or {}
        if 'task' not in headers or 'id' not in headers:
            headers, body = self.first_protocol(headers, body)
        self.headers = headers
        self.body = body
        self.request = request = dict(headers)
        request.update(
            properties=properties,
            reply_to=properties.get('reply_to'),
            correlation_id=properties.get('correlation_id'),
            hostname=hostname,
            delivery_info={
                'exchange': info.get('exchange'),
                'routing_key': info.get('routing_key'),
                'priority': properties.get('priority'),
                'redelivered': bool(head.get('redelivered') or info.get('redelivered', False)),
            },
        )

    def first_protocol(self, headers, body):
        """Protocol 1 and the mixture of both: Celery's own conversion."""
        from types import SimpleNamespace
        from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
        content = self.decode(body)
        convert = hybrid_to_proto2 if 'task' in headers else proto1_to_proto2
        body, headers, _, _ = convert(SimpleNamespace(headers=headers), content)
        # It is decoded: no type stands for that, as in celery.worker.request.
        self.content_type = self.content_encoding = None
        return dict(headers), body

    def decode(self, body, accept=None):
        from celery import current_app
        from kombu.serialization import loads, prepare_accept_content
        return loads(body, self.content_type, self.content_encoding,
                     accept=prepare_accept_content(current_app.conf.accept_content) if accept is None else accept)

    def content(self, accept=None):
        """(args, kwargs, embed), checked for its shape."""
        return shaped(self.body if not self.content_type else self.decode(self.body, accept))


def shaped(content):
    """The content, if it is one of a task."""
    from celery.exceptions import InvalidTaskError
    try:
        args, kwargs, embed = content
    except (TypeError, ValueError):
        raise InvalidTaskError('The content is no list of arguments, named arguments and options: %s'
                               % safe_repr(content)[:200])
    if not hasattr(kwargs, 'items'):
        raise InvalidTaskError('Task keyword arguments is not a mapping')
    if not isinstance(args, (list, tuple)):
        raise InvalidTaskError('Task arguments is not a list')
    if embed is not None and not hasattr(embed, 'items'):
        raise InvalidTaskError('Task options is not a mapping')
    return args, kwargs, embed or {}
