"""Changes to LocalStack that it offers no plugin for, made when it starts."""

import contextlib
import os
import signal
import threading
import time

import psutil
from localstack.runtime import hooks
from localstack.services.lambda_.invocation.assignment import AssignmentService
from localstack.services.lambda_.invocation.execution_environment import InvalidStatusException

from . import counts, sqs_poller


@hooks.on_infra_start()
def install():
    sqs_poller.install()
    counts.install()
    AssignmentService.get_environment = _get_environment(AssignmentService.get_environment)
    if owner := int(os.environ.get("STEPWELL_OWNER") or 0):
        threading.Thread(target=_end_with, args=(owner,), name="owner", daemon=True).start()


def _end_with(owner):
    """Ends LocalStack in good order when that process has ended, which need not be its parent."""
    with contextlib.suppress(psutil.NoSuchProcess):
        # One that has ended but was not waited for counts as dead.
        while psutil.Process(owner).status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _get_environment(original):
    """LocalStack publishes a new environment before it reserves it, and iterates over a dictionary that other threads
    change: of many invocations at once some fail with an internal error. Free environments are therefore looked for in a
    copy, and a new one is reserved before others see it."""

    @contextlib.contextmanager
    def get_environment(service, version_manager_id, function_version, provisioning_type):
        if provisioning_type != "on-demand":
            with original(service, version_manager_id, function_version, provisioning_type) as environment:
                yield environment
            return
        environment = _free(list(service.environments[version_manager_id].values()), provisioning_type)
        if environment is None:
            environment = service.start_environment(version_manager_id, function_version)
            environment.reserve()
            service.environments[version_manager_id][environment.id] = environment
        try:
            yield environment
        except Exception:
            service.stop_environment(environment)
            raise
        with contextlib.suppress(InvalidStatusException):  # stopped meanwhile
            environment.release()

    return get_environment


def _free(environments, provisioning_type):
    for environment in environments:
        if environment.initialization_type == provisioning_type:
            with contextlib.suppress(InvalidStatusException):
                environment.reserve()
                return environment
    return None
