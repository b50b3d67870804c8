"""Lambda environments as processes of this machine, in LocalStack's terms."""

import logging
import os
import threading
import time

from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from . import clock, dynamodb
from .environment import INIT_SECONDS, Environment, InitError
from .runtime_api import Invocation

LOG = logging.getLogger(__name__)
# A loaded machine may need longer than Lambda grants.
PATIENCE = float(os.environ.get("STEPWELL_LAMBDA_INIT_SECONDS") or INIT_SECONDS)


class HostExecutor(RuntimeExecutor):
    """What LocalStack calls an environment; it has one process after another, if one is lost."""

    def __init__(self, id, function_version):
        super().__init__(id, function_version)
        self._lock = threading.Lock()
        self._stopped = False
        self._environment = None
        self._code = None
        self._variables = {}

    @classmethod
    def prepare_version(cls, function_version):
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version):
        """LocalStack removes the code by itself."""

    # LocalStack asks these to make the function's variables (AWS_ENDPOINT_URL among them).

    def get_address(self):
        return "127.0.0.1"

    def get_endpoint_from_executor(self):
        return "127.0.0.1"

    def get_runtime_endpoint(self):
        return "http://127.0.0.1"

    def start(self, env_vars):
        """Returns when the process asks for work."""
        self._code = self.function_version.config.code.get_unzipped_code_location()
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        # The gateway costs a put five times what DynamoDB Local does.
        direct = {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb.endpoint()}
        self._variables = {**inherited, **direct, **clock.variables(), **{name: str(value) for name, value in env_vars.items()}}
        try:
            self._renew()
        except InitError as error:
            LOG.warning("%s does not start: %s\n%s", self._name(), error, error.logs[-2000:])
            raise StatusErrorException(str(error), payload=error.payload) from error

    def stop(self):
        with self._lock:
            self._stopped, environment = True, self._environment
        if environment:
            environment.stop()

    def invoke(self, payload):
        request_id = payload["invoke-id"]
        began = time.monotonic()
        try:
            body, is_error = self._perform(payload)
        except InitError as error:
            body, is_error, logs = error.payload, True, error.logs
        else:
            logs = self._environment.logs()
        took = (time.monotonic() - began) * 1000
        memory = self.function_version.config.memory_size
        told = (
            f"START RequestId: {request_id} Version: {self.function_version.id.qualifier}\n",
            logs if not logs or logs.endswith("\n") else f"{logs}\n",
            # A process that was lost or ended could not say so itself.
            "" if not is_error else f"{body[:2000].decode('utf-8', 'replace')}\n",
            f"END RequestId: {request_id}\n",
            f"REPORT RequestId: {request_id}\tDuration: {took:.2f} ms\tMemory Size: {memory} MB\n",
        )
        return InvocationResult(request_id, body, is_error=is_error, logs="".join(told))

    def _perform(self, payload):
        if not self._environment.alive:  # its process was lost with the invocation before
            self._renew()
        seconds = self.function_version.config.timeout
        invocation = Invocation(
            payload["invoke-id"],
            payload["invoked-function-arn"],
            payload["payload"].encode(),
            clock.now_ms() + int(seconds * 1000),
            payload["trace-id"],
        )
        return self._environment.invoke(invocation, seconds)

    def get_logs(self):
        """What was written outside of invocations; LocalStack shows it when something went wrong."""
        return self._environment.logs() if self._environment else ""

    def _renew(self):
        environment = Environment(self._code, self._variables, PATIENCE)
        with self._lock:
            if not self._stopped:
                self._environment = environment
                return
        # LocalStack's own patience ended meanwhile.
        environment.stop()
        raise RuntimeError(f"{self._name()} was stopped while it started")

    def _name(self):
        return self.function_version.id.function_name


class HostExecutorPlugin(RuntimeExecutorPlugin):
    name = "host"

    def load(self, *_, **__):
        return HostExecutor
