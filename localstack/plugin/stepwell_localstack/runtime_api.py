"""The Lambda Runtime API for one process: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

It has a port of its own, because a process finds it by host and port alone.
"""

import dataclasses
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PREFIX = "/2018-06-01/runtime/"


@dataclasses.dataclass(frozen=True)
class Invocation:
    request_id: str
    function_arn: str
    payload: bytes
    deadline_ms: int
    """Unix time in milliseconds."""
    trace_id: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    payload: bytes
    is_error: bool


class RuntimeApi:
    """A rendezvous: the process asks for the next invocation and posts its outcome, `invoke` hands one over and waits."""

    def __init__(self):
        self._changed = threading.Condition()
        self._idle = False  # the process waits in /next
        self._invocation = None  # handed over, not yet taken
        self._running = None  # its request id
        self._outcome = None
        self._init_error = None
        self._closed = False
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, name="runtime-api", daemon=True).start()

    @property
    def address(self):
        """The value of AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def init_error(self):
        """What the process said about a failed initialisation, or None."""
        return self._init_error

    def until_idle(self, seconds):
        """Whether the process asks for work, within this time; not if it failed to initialise or is gone."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._init_error or self._closed, seconds)
            return self._idle

    def invoke(self, invocation, seconds):
        """The outcome, or None if the time is over or the process gone."""
        with self._changed:
            self._outcome, self._running, self._invocation = None, invocation.request_id, invocation
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._outcome or self._closed, seconds)
            self._running = self._invocation = None
            return self._outcome

    def close(self):
        """Lets everybody go who waits; to be called when the process has ended."""
        with self._changed:
            if self._closed:
                return
            self._closed, self._idle = True, False
            self._changed.notify_all()
        # Waits for the loop that accepts, which looks up twice a second: nobody needs to wait with it.
        threading.Thread(target=self._shut, daemon=True).start()

    def _shut(self):
        self._server.shutdown()
        self._server.server_close()

    def _next(self):
        """Blocks; None when closed."""
        with self._changed:
            self._idle = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._invocation or self._closed)
            taken, self._invocation = self._invocation, None
            self._idle = False
            return None if self._closed else taken

    def _finish(self, request_id, outcome):
        """Whether this is the invocation that runs; a late answer to another is refused."""
        with self._changed:
            if request_id != self._running or self._outcome:
                return False
            self._outcome = outcome
            self._changed.notify_all()
            return True

    def _fail_init(self, payload):
        with self._changed:
            self._init_error = payload
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # the process was killed: its environment knows
            super().handle_error(request, client_address)


def _handler(api):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body in one packet

        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path != f"{PREFIX}invocation/next":
                return self._answer(404, b'{"errorType":"NotFound"}')
            invocation = api._next()
            if invocation is None:
                self.close_connection = True
                return None
            return self._answer(200, invocation.payload, {
                "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
                "Lambda-Runtime-Trace-Id": invocation.trace_id,
            })

        def do_POST(self):
            body = self._body()
            parts = self.path.removeprefix(PREFIX).split("/")
            if parts == ["init", "error"]:
                api._fail_init(body or b"{}")
            elif len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
                if not api._finish(parts[1], Outcome(body, parts[2] == "error")):
                    wrong = {"errorType": "InvalidRequestID", "errorMessage": f"{parts[1]} is not being invoked"}
                    return self._answer(400, json.dumps(wrong).encode())
            else:
                return self._answer(404, b'{"errorType":"NotFound"}')
            return self._answer(202, b'{"status":"OK"}')

        def _answer(self, status, body, headers=None):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _body(self):
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers
                pass
            return bytes(body)

    return Handler
