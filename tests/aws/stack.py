"""The deployed stack, as tests see it: one LocalStack with template.yaml as it stands, its REST API, table, queues, functions
and clock; and the agents that its steps call.

`the()` gives the stack, started when it is first asked for and ended with the process. STEPWELL_STACK names the folder of one
that is to stay (`localstack/up --clock --state DIR`): it is started and deployed if need be, used as it is otherwise.

Time: `advance` moves the wall clock of all functions ahead, never back, so tests run one after another. Nothing here sleeps
and hopes: `wait` is the API's own waiting, `until` asks again until its time is over, and both say what they saw.
"""

import atexit
import collections
import datetime
import functools
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "localstack"))

import instance  # noqa: E402
from support import locked  # noqa: E402

FUNCTIONS = ("start", "step", "resume", "approval", "api", "sweep")
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
PATIENCE = 60
SECRET = "what signs the webhooks of the tests"
"""In HOOK_SECRET of `start`."""


class Unexpected(AssertionError):
    """The stack did something else than a test went on from."""


@functools.cache
def the():
    """The stack of this test run."""
    stays = os.environ.get("STEPWELL_STACK")
    folder = pathlib.Path(stays or tempfile.mkdtemp(prefix="stepwell-aws-")).resolve()
    lacking = [name for name in FUNCTIONS if not (ROOT / "target" / "lambda" / name / "bootstrap").exists()]
    if lacking:
        raise SystemExit(f"the functions {', '.join(lacking)} are not built: scripts/build-functions (`make test-aws` calls it)")
    folder.mkdir(parents=True, exist_ok=True)
    owner = [] if stays else ["--owner", str(os.getpid())]
    if not stays:
        atexit.register(_script, "down", "--state", folder)
    known = json.loads(_script("up", "--state", folder, "--clock", "--json", *owner))
    if not known.get("clock"):
        raise SystemExit(f"the LocalStack in {folder} runs without --clock: end it with localstack/down, and start it with it")
    outputs = folder / "outputs.json"
    with locked(folder / "deploy.lock"):
        deployed = json.loads(outputs.read_text()) if outputs.exists() else {}
        if deployed.get("endpoint") != known["endpoint"]:
            deployed = {**json.loads(_script("deploy", "--state", folder)), "endpoint": known["endpoint"]}
            # As whoever deploys it would: the template knows no secrets.
            Stack(known, deployed, folder).configure("start", HOOK_SECRET=SECRET)
            outputs.write_text(json.dumps(deployed))
    return Stack(known, deployed, folder)


def _script(name, *arguments):
    """One of localstack/'s scripts, which say themselves what is missing."""
    command = [str(each) for each in (ROOT / "localstack" / name, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"localstack/{name} failed:\n{done.stderr}")
    return done.stdout


@dataclass
class Answer:
    """What the API answered."""

    status: int
    body: object
    headers: dict

    @property
    def code(self):
        """The code of an error."""
        return self.body.get("code") if isinstance(self.body, dict) else None


class Stack:
    def __init__(self, known, outputs, folder):
        self.known, self.outputs, self.folder = known, outputs, folder
        self.api = outputs["ApiUrl"]
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=90)
        self._credentials = Credentials(*instance.CREDENTIALS.values())
        self._clients = {}
        self.invoked = set()
        """The ids of the requests of `invoke`."""

    # The API.

    def request(self, method, path, body=None, *, headers=None, signed=True, **query):
        """Asks the API; a body is JSON unless it is text or bytes. Whatever the answer is, it is returned."""
        query = {name: value for name, value in query.items() if value is not None}
        url = f"{self.api}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        data = body.encode() if isinstance(body, str) else body
        if signed:
            request = AWSRequest(method, url, headers, data or b"")
            SigV4Auth(self._credentials, "execute-api", instance.REGION).add_auth(request)
            headers = dict(request.headers)
        answer = self._http.request(method, url, body=data, headers=headers)
        try:
            document = json.loads(answer.data) if answer.data else None
        except ValueError:
            document = answer.data.decode("utf-8", "replace")
        return Answer(answer.status, document, {name.lower(): value for name, value in answer.headers.items()})

    def ask(self, method, path, body=None, *, expect=(200, 201, 202), **more):
        """The same where a certain status is expected: the document."""
        answer = self.request(method, path, body, **more)
        if answer.status not in (expect if isinstance(expect, tuple) else (expect,)):
            raise Unexpected(f"{method} {path}: {answer.status} instead of {expect}: {str(answer.body)[:2000]}")
        return answer.body

    def register_workflow(self, source, file="test.workflow.yaml"):
        """Registers a definition (YAML text, or an object) and returns its id."""
        kind = "application/json" if not isinstance(source, str) else "application/yaml"
        text = source if isinstance(source, str) else json.dumps(source)
        file = file if isinstance(source, str) else "test.workflow.json"
        return self.ask("POST", "/api/v1/workflows", text, headers={"Content-Type": kind}, file=file, newVersion="true")["workflowId"]

    def disable_workflow(self, workflow):
        self.ask("DELETE", f"/api/v1/workflows/{_quoted(workflow)}")

    def register_agent(self, name, definition):
        """`definition` is what would stand in NAME.agent.yaml, as an object."""
        text = json.dumps(definition)
        json_type = {"Content-Type": "application/json"}
        return self.ask("PUT", f"/api/v1/agents/{_quoted(name)}", text, headers=json_type, newVersion="true")

    def start(self, workflow, input=None, *, key=None, **more):
        """Starts a run and returns its id. More: `version`, `starter`."""
        headers = {"Idempotency-Key": key} if key else {}
        body = {"workflowId": workflow, "input": {} if input is None else input, **more}
        return self.ask("POST", "/api/v1/workflow-runs", body, headers=headers)["runId"]

    def get(self, run):
        return self.ask("GET", f"/api/v1/workflow-runs/{_quoted(run)}")

    def wait(self, run, timeout=PATIENCE, status=None):
        """The run once it is over; with `status`, it must have ended so."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(1, min(25, int(deadline - time.monotonic())))
            answer = self.request("GET", f"/api/v1/workflow-runs/{_quoted(run)}", wait=f"{left}s")
            if answer.status == 200 and answer.body["status"] in OVER:
                break
            if answer.status not in (200, 202) or time.monotonic() >= deadline:
                raise Unexpected(f"the run {run} is not over after {timeout} s: {self.describe(run)}")
        if status and answer.body["status"] != status:
            raise Unexpected(f"the run {run} is {answer.body['status']} instead of {status}: {self.describe(run)}")
        return answer.body

    def wait_all(self, runs, timeout=PATIENCE, status="COMPLETED"):
        """The same of many; a few are asked for at a time, so that waiting takes no more functions than that."""
        deadline = time.monotonic() + timeout
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda run: self.wait(run, max(1, deadline - time.monotonic()), status), runs))

    def status_of(self, run):
        return self.get(run)["status"]

    def until_status(self, run, *statuses, timeout=PATIENCE):
        """The run once it stands so (`WAITING_APPROVAL`, …)."""
        return self.until(lambda: (view := self.get(run))["status"] in statuses and view, timeout,
                          lambda: f"the run {run} never was {' or '.join(statuses)}: {self.describe(run)}")

    def until(self, condition, timeout=PATIENCE, otherwise="it never came to be"):
        """What `condition` gives, once that is true."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise Unexpected(otherwise() if callable(otherwise) else otherwise)
            time.sleep(0.05)
        return found

    def timeline(self, run):
        """All events of a run: `{scope, seq, index, at, event}`."""
        return self._all(f"/api/v1/workflow-runs/{_quoted(run)}/events")

    def runs(self, workflow=None, status=None):
        return self._all("/api/v1/workflow-runs", workflowId=workflow, status=status)

    def approvals(self, run):
        return self._all(f"/api/v1/workflow-runs/{_quoted(run)}/approvals")

    def _all(self, path, **query):
        found, cursor = [], None
        while True:
            page = self.ask("GET", path, limit=1000, cursor=cursor, **query)
            found += page["items"]
            cursor = page.get("next")
            # A timeline always has one: that of what is yet to come.
            if cursor is None or len(page["items"]) < 1000:
                return found

    def question(self, run, state=None, timeout=PATIENCE):
        """The approval that a run waits for, once it does."""
        def pending():
            asked = [each for each in self.approvals(run) if each["status"] == "PENDING" and state in (None, each["state"])]
            return asked and asked[0]
        return self.until(pending, timeout, lambda: f"the run {run} asks nobody: {self.describe(run)}")

    def decide(self, run, approval, verb, **body):
        """`verb` is `approve` or `reject`; whatever the answer is, it is returned. Body: `approver`, `teams`, `comment`, `form`."""
        return self.request("POST", f"/api/v1/workflow-runs/{_quoted(run)}/approvals/{_quoted(approval)}/{verb}", body)

    def approve(self, run, approver, **body):
        """Approves what the run waits for."""
        answer = self.decide(run, self.question(run)["approvalId"], "approve", approver=approver, **body)
        if answer.status != 200:
            raise Unexpected(f"the approval of {run}: {answer.status} {answer.body}")
        return answer.body

    def control(self, run, verb, **body):
        """`pause`, `resume`, `cancel`, `redrive`."""
        return self.ask("POST", f"/api/v1/workflow-runs/{_quoted(run)}/{verb}", body)

    def signal(self, run, name, payload=None, **body):
        return self.ask("POST", f"/api/v1/workflow-runs/{_quoted(run)}/signals", {"name": name, "payload": payload, **body})

    def describe(self, run):
        """Where a run stands, for a failure's message."""
        view = self.request("GET", f"/api/v1/workflow-runs/{_quoted(run)}").body
        brief = {name: view.get(name) for name in ("status", "stuck", "current", "error")} if isinstance(view, dict) else view
        try:
            end = [f"{each['scope']} {each['seq']} {each['at']} {json.dumps(each['event'])[:200]}" for each in self.timeline(run)[-12:]]
        except Unexpected as error:
            end = [str(error)]
        queues = {name: self.depth(name) for name in ("StepsQueue", "ResumeQueue")}
        return "\n  ".join([json.dumps(brief)[:1500], f"queues {queues}, clock ahead {self.ahead / 1000:.0f} s", *end])

    # What is behind it.

    def client(self, service):
        if service not in self._clients:
            key, secret = instance.CREDENTIALS.values()
            options = Config(s3={"addressing_style": "path"}, max_pool_connections=64, read_timeout=960, retries={"total_max_attempts": 1})
            self._clients[service] = boto3.client(
                service, endpoint_url=self.known["dynamodb"] if service == "dynamodb" else self.known["endpoint"],
                region_name=instance.REGION, aws_access_key_id=key, aws_secret_access_key=secret, config=options,
            )
        return self._clients[service]

    @property
    def table(self):
        return self.outputs["TableName"]

    def items(self, run):
        """The table's items of one run: its journals, its summary, and what else it has."""
        condition = {
            "FilterExpression": "pk = :r OR begins_with(pk, :j)",
            "ExpressionAttributeValues": {":r": {"S": f"R#{run}"}, ":j": {"S": f"J#{run}#"}},
        }
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True, **condition)
        return [item for page in pages for item in page["Items"]]

    def records(self, run):
        """The same, only what stands in its journals: (partition, number)."""
        return sorted((item["pk"]["S"], int(item["sk"]["S"])) for item in self.items(run)
                      if item["pk"]["S"].startswith("J#") and item["sk"]["S"].isdigit())

    def objects(self):
        """The keys of the bucket, with their sizes."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=self.outputs["BucketName"])
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}

    def queue(self, name):
        """The URL of `StepsQueue`, `ResumeDeadLetterQueue`, …"""
        return self.outputs[f"{name}Url"]

    def depth(self, name):
        """The messages of a queue: (visible, in flight, delayed)."""
        wanted = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        got = self.client("sqs").get_queue_attributes(QueueUrl=self.queue(name), AttributeNames=wanted)["Attributes"]
        return tuple(int(got[each]) for each in wanted)

    def until_quiet(self, delayed=0, timeout=PATIENCE):
        """Waits until neither queue has a message, apart from so many that are delayed."""
        def is_quiet():
            depths = [self.depth("StepsQueue"), self.depth("ResumeQueue")]
            return all(depth[:2] == (0, 0) for depth in depths) and sum(depth[2] for depth in depths) <= delayed
        self.until(is_quiet, timeout, lambda: f"the queues never emptied: steps {self.depth('StepsQueue')}, "
                                              f"resume {self.depth('ResumeQueue')}, where {delayed} may be delayed")

    def delayed(self):
        """How many messages are delayed: deadlines of at most 15 minutes, which may be over by now."""
        return sum(self.depth(queue)[2] for queue in ("StepsQueue", "ResumeQueue"))

    def invoke(self, function, payload):
        """Invokes a function by its short name and returns what it answers."""
        name = self.outputs[f"{function.capitalize()}FunctionName"]
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(payload).encode())
        self.invoked.add(answer["ResponseMetadata"]["RequestId"])
        body = answer["Payload"].read()
        if "FunctionError" in answer:
            raise Unexpected(f"{function} failed: {body[:2000]}")
        return json.loads(body) if body else None

    def sweep(self):
        """What the rule does each minute."""
        self.invoke("sweep", {"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})

    def configure(self, function, **variables):
        """Sets environment variables of a function, besides those it has. Its processes are made anew. LocalStack loses what
        it was to invoke asynchronously in the second before and after."""
        name = self.outputs[f"{function.capitalize()}FunctionName"]
        functions = self.client("lambda")
        present = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        if present | variables != present:
            functions.update_function_configuration(FunctionName=name, Environment={"Variables": present | variables})
            functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})

    def logs(self, function):
        """The lines that a function has logged: objects where they are JSON."""
        group = f"/aws/lambda/{self.outputs[f'{function.capitalize()}FunctionName']}"
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        texts = [line for page in pages for event in page["events"] for line in event["message"].splitlines()]
        return [json.loads(text) if text.startswith("{") else text for text in texts]

    # The clock of the functions.

    @property
    def ahead(self):
        """By how many milliseconds it is ahead of this machine's."""
        return int.from_bytes(pathlib.Path(self.known["clock"]).read_bytes(), sys.byteorder, signed=True)

    def now(self):
        """Their time."""
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(milliseconds=self.ahead)

    def advance(self, **by):
        """Moves it ahead by a timedelta's arguments. What is due then is found by the next sweep."""
        moved = self.ahead + int(datetime.timedelta(**by).total_seconds() * 1000)
        with open(self.known["clock"], "r+b") as file:
            # In place and at once: the functions have the file mapped.
            os.pwrite(file.fileno(), moved.to_bytes(8, sys.byteorder, signed=True), 0)

    def advance_to(self, moment):
        """The same, to a moment that must not be over."""
        by = moment - self.now()
        if by < datetime.timedelta(0):
            raise ValueError(f"{moment} is over, it is {self.now()}")
        self.advance(seconds=by.total_seconds())


@dataclass
class Call:
    """One call of an agent."""

    agent: str
    request: dict
    """{task, variables, input, runId, stepId, state, attempt, idempotencyKey, …}"""
    key: str
    at: float
    """By time.monotonic()."""
    number: int
    """The how manyth of this agent, from 1."""
    peer: tuple
    """The caller's end of the connection: (host, port)."""

    @property
    def run(self):
        return self.request.get("runId")

    @property
    def task(self):
        return self.request.get("task")


@dataclass
class Reply:
    """What an agent answers: a value as JSON, or a text as it is; a status; after a delay. `drop` hangs up instead."""

    value: object = None
    text: str | None = None
    status: int = 200
    delay: float = 0
    headers: dict = field(default_factory=dict)
    drop: bool = False


class Agents:
    """The agents: one HTTP server on loopback. It records each call before it answers."""

    def __init__(self):
        self._lock = threading.Lock()
        self._calls = []
        self._counts = collections.Counter()
        self._answers = {}
        self._server = Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, name="agents", daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self):
        """Host and port, the other end of `Call.peer`."""
        return self._server.server_address

    def url(self, name):
        return f"http://127.0.0.1:{self._server.server_port}/{_quoted(name)}"

    def register(self, stack, *names, **fields):
        """Makes these agents of the stack ask here. Fields: more of the definition (`timeoutSeconds`, …)."""
        for name in names:
            stack.register_agent(name, {"type": "http", "method": "POST", "url": self.url(name), **fields})

    def answer(self, name, answer):
        """What an agent answers from now on: a Reply, a function from a Call to one, a list (by turns, the last one for ever),
        a text or a value. Without one it answers `{}`."""
        with self._lock:
            self._answers[name] = answer

    def forget(self):
        """Begins anew: no calls, no answers."""
        with self._lock:
            self._calls, self._answers = [], {}
            self._counts.clear()

    def calls(self, agent=None, run=None):
        with self._lock:
            return [call for call in self._calls if agent in (None, call.agent) and run in (None, call.run)]

    def performed(self, agent=None, run=None):
        """How often each idempotency key was performed."""
        return collections.Counter(call.key for call in self.calls(agent, run))

    def _take(self, name, key, body, peer):
        """Records a call and says what is answered."""
        request = json.loads(body) if body else {}
        with self._lock:
            self._counts[name] += 1
            call = Call(name, request if isinstance(request, dict) else {"body": request}, key, time.monotonic(), self._counts[name], peer)
            self._calls.append(call)
            answer = self._answers.get(name, {})
        if isinstance(answer, list):
            answer = answer[min(call.number, len(answer)) - 1]
        if callable(answer):
            answer = answer(call)
        if isinstance(answer, Reply):
            return answer
        return Reply(text=answer) if isinstance(answer, str) else Reply(value=answer)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a function was killed
            super().handle_error(request, client_address)


def _handler(agents):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = urllib.parse.unquote(self.path.strip("/"))
            reply = agents._take(name, self.headers.get("Idempotency-Key"), body, self.client_address)
            if reply.delay:
                time.sleep(reply.delay)
            if reply.drop:
                self.close_connection = True
                return
            text = reply.text if reply.text is not None else json.dumps(reply.value)
            data = text.encode()
            self.send_response(reply.status)
            kind = "text/plain; charset=utf-8" if reply.text is not None else "application/json"
            for header, value in {"Content-Type": kind, "Content-Length": str(len(data)), **reply.headers}.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST

    return Handler


def _quoted(part):
    return urllib.parse.quote(part, safe="")

