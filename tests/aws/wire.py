"""A wire between the functions and one AWS service: everything that goes over it is counted, and some of it can be made to
fail as networks and services do.

    with Wire("http://127.0.0.1:8000") as wire:      # functions get wire.endpoint
        with wire.watched() as seen:
            ...
        sum(len(request.writes) for request in seen)
        with wire.failing(lambda request: LOSE if request.writes_records else None):
            ...

It knows requests in JSON with X-Amz-Target, as DynamoDB and SQS speak, and decides nothing: a rule does.
"""

import base64
import contextlib
import dataclasses
import http.client
import json
import re
import socket
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What a rule may answer, beside None (nothing goes wrong), `refuse(…)` and `instead(…)`.
LOSE = ("lose",)
"""It is done, and the answer never arrives."""
DROP = ("drop",)
"""It never arrives, and neither does an answer."""
TWICE = ("twice",)
"""It arrives twice; the second answer is told."""

# A connection that was idle for longer may have been closed by the other side, and what is sent over it is lost.
STALE_SECONDS = 2
RECORD = re.compile(r"\d{20}")


def refuse(code, status=400):
    """The service answers with this error, and does nothing."""
    return ("refuse", code, status)


def instead(body):
    """This body is sent in the place of the request's own."""
    return ("instead", body)


# What DynamoDB says when it is asked for too much, in both of its ways.
THROTTLED = refuse("com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")
THROTTLED_TOO = refuse("com.amazon.coral.availability#ThrottlingException")


@dataclasses.dataclass
class Request:
    """One request that came over the wire, and what became of it."""

    number: int
    at: float
    operation: str
    body: dict
    fault: tuple | None = None
    status: int | None = None
    """None while it is under way, and when nobody answered."""
    answer: dict | None = None
    units: object = None
    """What a meter says that it cost, if there is one."""

    @property
    def writes(self):
        """The items that it writes, each as (what is done, the item or its key)."""
        match self.operation:
            case "PutItem":
                return [("Put", self.body["Item"])]
            case "UpdateItem" | "DeleteItem":
                return [(self.operation.removesuffix("Item"), self.body["Key"])]
            case "TransactWriteItems":
                found = [(kind, each) for entry in self.body["TransactItems"] for kind, each in entry.items()]
                return [(kind, each.get("Item") or each.get("Key")) for kind, each in found if kind != "ConditionCheck"]
            case "BatchWriteItem":
                entries = [entry for table in self.body["RequestItems"].values() for entry in table]
                return [("Put", entry["PutRequest"]["Item"]) if "PutRequest" in entry
                        else ("Delete", entry["DeleteRequest"]["Key"]) for entry in entries]
        return []

    @property
    def records(self):
        """The journal records that it appends, as (partition, number)."""
        return [(item["pk"]["S"], int(item["sk"]["S"])) for kind, item in self.writes
                if kind == "Put" and item["pk"]["S"].startswith("J#") and RECORD.fullmatch(item["sk"]["S"])]

    @property
    def messages(self):
        """The doorbells that it sends, as their bodies."""
        return [json.loads(entry["MessageBody"]) for entry in self.body.get("Entries", ()) if "MessageBody" in entry]

    @property
    def queue(self):
        """The last part of the queue's URL."""
        return self.body.get("QueueUrl", "").rpartition("/")[2]

    @property
    def succeeded(self):
        """Whether it was done, told or not."""
        return self.status is not None and self.status < 300


class Wire:
    """A server on a free port of the loopback interface, until it is closed."""

    def __init__(self, upstream):
        self._upstream = urllib.parse.urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._number = 0
        self._watchers = []
        self._rules = []
        # Asked before and after each request: `before(request)`, `after(request, what before gave)`.
        self.meter = None
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="wire", daemon=True)
        self._thread.start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @contextlib.contextmanager
    def watched(self):
        """A list to which each request is appended when its fate is known."""
        seen = []
        with self._lock:
            self._watchers.append(seen)
        try:
            yield seen
        finally:
            with self._lock:
                self._watchers = [watcher for watcher in self._watchers if watcher is not seen]

    @contextlib.contextmanager
    def failing(self, rule):
        """Asks the rule about each request, and gives it what the rule answers; yields those that it struck."""
        struck = []
        entry = (rule, struck)
        with self._lock:
            self._rules.append(entry)
        try:
            yield struck
        finally:
            with self._lock:
                self._rules = [each for each in self._rules if each is not entry]

    def _begin(self, operation, body):
        with self._lock:
            self._number += 1
            request = Request(self._number, time.monotonic(), operation, body)
            # One at a time: rules count.
            for rule, struck in self._rules:
                if fault := rule(request):
                    request.fault = fault
                    struck.append(request)
                    break
            return request

    def _end(self, request):
        with self._lock:
            for watcher in self._watchers:
                watcher.append(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # a function was killed, or retired
            super().handle_error(request, client_address)


def _handler(wire):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body in one packet
        onward = None  # this connection's own to the service
        used = 0.0

        def log_message(self, *_):
            pass

        def do_POST(self):
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            body = json.loads(raw or b"{}")
            request = wire._begin(operation, body)
            try:
                self._carry(request, raw)
            finally:
                wire._end(request)

        def _carry(self, request, raw):
            match request.fault:
                case ("drop",):
                    return self._cut()
                case ("refuse", code, status):
                    request.status = status
                    told = json.dumps({"__type": code, "message": "the wire was told to refuse this"}).encode()
                    return self._tell(status, [("Content-Type", "application/x-amz-json-1.0")], told)
                case ("instead", body):
                    raw = json.dumps(body).encode()
                case ("twice",):
                    self._forward(request, raw)
            before = wire.meter and wire.meter.before(request)
            answer, told = self._forward(request, raw)
            request.units = wire.meter and wire.meter.after(request, before)
            if request.fault == LOSE:
                return self._cut()
            return self._tell(answer.status, answer.getheaders(), told)

        def _forward(self, request, raw):
            headers = {name: value for name, value in self.headers.items()
                       if name.lower() not in ("host", "content-length", "connection")}
            if self.onward is None or time.monotonic() - self.used > STALE_SECONDS:
                self._hang_up()
                self.onward = http.client.HTTPConnection(wire._upstream, timeout=120)
                self.onward.connect()
                self.onward.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.onward.request("POST", self.path, raw, headers)
            answer = self.onward.getresponse()
            told = answer.read()
            self.used = time.monotonic()
            if answer.will_close:
                self._hang_up()
            request.status, request.answer = answer.status, json.loads(told or b"{}")
            return answer, told

        def _tell(self, status, headers, told):
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "keep-alive"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def _cut(self):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def _hang_up(self):
            if self.onward is not None:
                self.onward.close()
                self.onward = None

        def finish(self):
            self._hang_up()
            super().finish()

    return Handler


# Rules.


def every(k, fault, of=lambda request: True):
    """Strikes each k-th request that is one `of` these."""
    count = 0

    def rule(request):
        nonlocal count
        if not of(request):
            return None
        count += 1
        return fault if count % k == 0 else None

    return rule


def outage(up, down, fault=DROP, of=lambda request: request.operation == "SendMessageBatch"):
    """Nothing of these goes through for `down` seconds, after `up` seconds in which all does; by turns."""
    begun = time.monotonic()

    def rule(request):
        return fault if of(request) and (time.monotonic() - begun) % (up + down) >= up else None

    return rule


def first_delivery_reappears(seconds=0):
    """A queue that delivers each message at least twice: when the function hides one that it received for the first time, it
    becomes visible again `seconds` later, whatever was asked for."""
    known = set()

    def rule(request):
        if request.operation != "ChangeMessageVisibilityBatch":
            return None
        entries = []
        for entry in request.body["Entries"]:
            message = message_of(entry["ReceiptHandle"])
            entries.append(entry if message in known else {**entry, "VisibilityTimeout": seconds})
            known.add(message)
        return instead({**request.body, "Entries": entries})

    return rule


def message_of(receipt):
    """The message that one of LocalStack's receipts is for."""
    return base64.b64decode(receipt).decode().split(" ")[2]


class Wires:
    """DynamoDB and SQS of a stack behind a wire each, for all its functions, until they are taken off."""

    def __init__(self, stack, functions):
        self._stack, self._functions = stack, functions
        self.dynamodb = Wire(stack.known["dynamodb"])
        self.sqs = Wire(stack.known["endpoint"])
        self._lead(self.dynamodb.endpoint, self.sqs.endpoint)

    def close(self):
        self._lead(self._stack.known["dynamodb"], self._stack.known["endpoint"])
        self.dynamodb.close()
        self.sqs.close()

    def _lead(self, dynamodb, sqs):
        for function in self._functions:
            self._stack.configure(function, AWS_ENDPOINT_URL_DYNAMODB=dynamodb, AWS_ENDPOINT_URL_SQS=sqs)
