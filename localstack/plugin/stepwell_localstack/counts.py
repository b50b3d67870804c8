"""What is asked of SQS and of Lambda, by whomever: a bill's lines, for tests. Answered at /_stepwell/counts since the start."""

import collections
import threading

from localstack.aws import handlers
from localstack.http import Response
from localstack.services.edge import ROUTER

PATH = "/_stepwell/counts"

_lock = threading.Lock()
_counts = collections.Counter()


def install():
    handlers.run_custom_response_handlers.append(_count)
    ROUTER.add(PATH, _answer)


def _count(_chain, context, _response):
    """A line is `service.Operation name`: the name is a queue's or a function's. A receive that found nothing is one of its own."""
    service = context.service.service_name if context.service else None
    if service not in ("sqs", "lambda") or not context.operation:
        return
    asked = context.service_request or {}
    name = asked.get("QueueUrl", "").rpartition("/")[2] or asked.get("FunctionName", "").rpartition(":")[2]
    operation = context.operation.name
    if operation == "ReceiveMessage" and not (context.service_response or {}).get("Messages"):
        operation = "ReceiveNothing"
    with _lock:
        _counts[f"{service}.{operation} {name}"] += 1


def _answer(_request):
    with _lock:
        told = dict(_counts)
    response = Response()
    response.set_json(told)
    return response
