"""SQS event source mappings as wide as their MaximumConcurrency, by long polls.

LocalStack has one thread per mapping, which invokes one batch at a time and sleeps up to ten seconds when idle.
"""

import functools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from localstack.services.lambda_.event_source_mapping.esm_worker import EsmWorker
from localstack.services.lambda_.event_source_mapping.pollers.sqs_poller import SqsPoller

LOG = logging.getLogger(__name__)
# A poll that finds nothing ends after this; it also bounds how late a mapping notices that it is stopped.
LONG_POLL_SECONDS = 2
# A mapping without MaximumConcurrency scales further on AWS; here the machine is the limit.
DEFAULT_WIDTH = 10


def install():
    one_by_one = EsmWorker.poller_loop

    @functools.wraps(one_by_one)
    def poller_loop(worker, *args, **kwargs):
        # The order within a FIFO queue's group is LocalStack's to keep.
        if isinstance(worker.poller, SqsPoller) and not worker.poller.is_fifo_queue:
            scaling = worker.esm_config.get("ScalingConfig") or {}
            width = scaling.get("MaximumConcurrency") or DEFAULT_WIDTH
            # LocalStack's loop keeps the mapping's states; its only poll lasts until the mapping is stopped.
            worker.poller.poll_events = lambda: _poll(worker.poller, width, worker._shutdown_event)
        return one_by_one(worker, *args, **kwargs)

    EsmWorker.poller_loop = poller_loop


def _poll(poller, width, stop):
    free = threading.Semaphore(width)

    def handle(messages):
        try:
            poller.handle_messages(messages)  # invokes, and deletes what succeeded
        except Exception as error:  # the messages return after their visibility time-out, as on AWS
            LOG.info("a batch of %s failed: %s", poller.source_arn, error)
        finally:
            free.release()

    with ThreadPoolExecutor(width, thread_name_prefix="sqs-mapping") as pool:
        while not stop.is_set():
            # Received only when somebody is free: a message that waits here would use up its visibility.
            if not free.acquire(timeout=LONG_POLL_SECONDS):
                continue
            try:
                messages = _receive(poller)
            except Exception as error:
                LOG.warning("polling %s failed, again in a second: %s", poller.source_arn, error)
                messages = None
                stop.wait(1)
            if messages and not stop.is_set():
                pool.submit(handle, messages)
            else:
                free.release()


def _receive(poller):
    return poller.source_client.receive_message(
        QueueUrl=poller.queue_url,
        MaxNumberOfMessages=min(poller.batch_size, 10),
        WaitTimeSeconds=LONG_POLL_SECONDS,
        MessageAttributeNames=["All"],
        MessageSystemAttributeNames=["All"],
    ).get("Messages")
