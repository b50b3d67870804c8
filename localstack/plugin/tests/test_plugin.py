"""What the plugin changes in LocalStack, against stand-ins for what surrounds it. Needs LocalStack's environment."""

import logging
import pathlib
import sys
import threading
import time
import types
import unittest
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from localstack.services.lambda_.invocation.execution_environment import InvalidStatusException  # noqa: E402

from stepwell_localstack import patches, sqs_poller  # noqa: E402


class Queue:
    """A poller and its client: hands out messages one by one, and records how many are handled at once."""

    source_arn, queue_url, batch_size = "arn", "url", 1

    def __init__(self, messages, seconds):
        self.left, self.seconds = list(range(messages)), seconds
        self.handled, self.now, self.most = [], 0, 0
        self.broken = 2
        self.lock = threading.Lock()
        self.source_client = self

    def receive_message(self, **_):
        with self.lock:
            if self.broken:
                self.broken -= 1
                raise ConnectionError("not now")
            if self.left:
                return {"Messages": [self.left.pop()]}
        time.sleep(0.02)
        return {}

    def handle_messages(self, messages):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
            self.handled += messages
        if messages[0] % 3 == 0:
            raise RuntimeError("the function failed")


class Polling(unittest.TestCase):
    def test_as_many_are_handled_at_once_as_the_mapping_says_whatever_fails(self):
        logging.disable()  # of the failures below
        self.addCleanup(logging.disable, logging.NOTSET)
        queue, stop = Queue(30, 0.05), threading.Event()
        quick = types.SimpleNamespace(is_set=stop.is_set, wait=lambda _: None)
        thread = threading.Thread(target=sqs_poller._poll, args=(queue, 6, quick))
        thread.start()
        deadline = time.monotonic() + 30
        while len(queue.handled) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join(30)
        self.assertFalse(thread.is_alive())
        self.assertEqual(sorted(queue.handled), list(range(30)))
        self.assertEqual(queue.most, 6)


class Environment:
    initialization_type = "on-demand"

    def __init__(self, name):
        self.id, self.busy, self.lock = name, False, threading.Lock()

    def reserve(self):
        with self.lock:
            if self.busy:
                raise InvalidStatusException("busy")
            self.busy = True

    def release(self):
        self.busy = False


class Service:
    """As much of LocalStack's AssignmentService as get_environment uses."""

    def __init__(self):
        self.environments, self.started, self.stopped = defaultdict(dict), 0, []

    def start_environment(self, *_):
        time.sleep(0.01)
        self.started += 1
        return Environment(self.started)

    def stop_environment(self, environment):
        self.stopped.append(environment.id)
        del self.environments["version"][environment.id]


class Assignments(unittest.TestCase):
    get_environment = staticmethod(patches._get_environment(None))

    def test_many_invocations_at_once_never_share_an_environment_and_never_fail(self):
        service = Service()
        using, lock = set(), threading.Lock()

        def invoke(_):
            with self.get_environment(service, "version", None, "on-demand") as environment:
                with lock:
                    self.assertNotIn(environment.id, using)
                    using.add(environment.id)
                time.sleep(0.001)
                with lock:
                    using.remove(environment.id)

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(invoke, range(400)))
        self.assertLessEqual(service.started, 20)
        self.assertEqual(len(service.environments["version"]), service.started)

    def test_an_environment_that_failed_is_not_used_again(self):
        service = Service()
        with self.assertRaises(ValueError), self.get_environment(service, "version", None, "on-demand"):
            raise ValueError("the executor's")
        self.assertEqual(service.stopped, [1])
        self.assertEqual(service.environments["version"], {})


if __name__ == "__main__":
    unittest.main()
