"""DynamoDB: LocalStack's own provider, which answers for TTL, point-in-time recovery and tags, and forwards the rest to
DynamoDB Local. Ours is started by `localstack/dynamodb-local`; LocalStack's would be downloaded by an installer."""

import json
import logging
import os
import pathlib
import subprocess
import threading

from localstack.aws.forwarder import AwsRequestProxy, HttpFallbackDispatcher
from localstack.services.dynamodb.server import DynamodbServer
from localstack.services.plugins import Service, aws_provider
from localstack.utils.threads import FuncThread

LOG = logging.getLogger(__name__)
COMMAND = "STEPWELL_DYNAMODB_LOCAL"
LOG_FILE = "STEPWELL_DYNAMODB_LOG"
# Where its address is written, for `localstack/up`.
ENDPOINT_FILE = "STEPWELL_DYNAMODB_ENDPOINT"


@aws_provider(api="dynamodb", name="host")
def provider():
    from localstack.services.dynamodb.v2.provider import DynamoDBProvider

    DynamodbServer.do_start_thread = _start
    return Service.for_provider(
        DynamoDBProvider(),
        dispatch_table_factory=lambda given: HttpFallbackDispatcher(given, given.get_forward_url),
    )


def endpoint():
    """DynamoDB Local's own address; starts it if need be."""
    DynamodbServer.do_start_thread = _start
    server = DynamodbServer.get()
    server.start_dynamodb()
    return server.url


def _start(server):
    command = os.environ[COMMAND]
    log = os.environ.get(LOG_FILE, os.devnull)
    # It ends with us even if we are killed.
    result = subprocess.run([command, "--owner", str(os.getpid()), "--log", log], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{command} failed: {result.stderr.strip()}")
    started = json.loads(result.stdout)
    host, port = started["endpoint"].removeprefix("http://").split(":")
    server._host, server._port = host, int(port)
    server.proxy = AwsRequestProxy(server.url)
    if ENDPOINT_FILE in os.environ:
        pathlib.Path(os.environ[ENDPOINT_FILE]).write_text(server.url)
    LOG.info("DynamoDB Local answers on %s", server.url)

    stopping = threading.Event()

    def stand_by(*_):
        stopping.wait()
        subprocess.run([command, "--stop", str(started["pid"])], check=False)

    thread = FuncThread(stand_by, name="dynamodb-local", on_stop=lambda *_: stopping.set())
    thread.start()
    return thread
