"""Faults on the deployed stack: functions killed in the middle of a step, messages that come twice, poison, DynamoDB throttled,
answers lost, rings that fail. After each of them every run has come to its end, no step whose success was recorded was performed
again, no journal has a hole, and nothing is left in a queue.
"""

import collections
import contextlib
import hashlib
import json
import signal
import threading
import time
import unittest
import urllib.request
import zlib

import psutil
import stack as stacks
import wire

CHAIN = 3


def chain(name, steps):
    """A workflow of steps one after another; an object, as the API takes it in JSON."""
    after = [{"next": f"s{n + 1}"} for n in range(steps - 1)] + [{"end": True}]
    return {"id": name, "states": [{"id": f"s{n}", "type": "agent", "agent": "worker", "task": f"s{n}", **after[n]} for n in range(steps)]}


VARIED = """
id: varied
states:
  - {id: given, type: transform, expression: '["x", "y", "z"]', resultPath: letters, next: first}
  - {id: first, type: agent, agent: worker, task: first, resultPath: first, next: fan}
  - id: fan
    type: parallel
    branches:
      - name: left
        states:
          - {id: l1, type: agent, agent: worker, task: l1, next: l2}
          - {id: l2, type: agent, agent: worker, task: l2, end: true}
      - name: right
        states:
          - {id: rest, type: wait, duration: 1s, next: r1}
          - {id: r1, type: agent, agent: worker, task: r1, end: true}
    resultPath: fan
    next: each
  - id: each
    type: foreach
    itemsPath: letters
    itemVariable: letter
    iterator:
      states: [{id: item, type: agent, agent: worker, task: "item {{ letter }}", end: true}]
    resultPath: each
    next: child
  - {id: child, type: workflow, workflow: inner, input: {n: 1}, resultPath: child, next: gate}
  - {id: gate, type: human_approval, message: "go on?", resultPath: decision, next: last}
  - {id: last, type: agent, agent: worker, task: last, resultPath: last, next: told}
  - {id: told, type: transform, expression: '[first, fan, each, child, decision.approved, last]', end: true}
"""
INNER = """
id: inner
states: [{id: deep, type: agent, agent: worker, task: deep, end: true}]
"""
FLAKY = """
id: flaky
states:
  - id: flaky
    type: agent
    agent: worker
    task: flaky
    retry: {maxAttempts: 3, backoffSeconds: 8}
    end: true
"""
GATED = """
id: gated
states:
  - {id: before, type: agent, agent: worker, task: before, next: gate}
  - {id: gate, type: human_approval, message: "go on?", next: after}
  - {id: after, type: agent, agent: worker, task: after, end: true}
"""
# first, l1, l2, r1, three items, deep, last
VARIED_STEPS = 9


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = stacks.the()
        cls.agents = stacks.Agents()
        cls.addClassCleanup(cls.agents.close)
        cls.wires = wire.Wires(cls.stack, stacks.FUNCTIONS)
        cls.addClassCleanup(cls.wires.close)
        cls.agents.register(cls.stack, "worker")
        for source in (INNER, VARIED, FLAKY, GATED, chain("chain", CHAIN), chain("long", 22)):
            cls.stack.register_workflow(source)
        cls.agents.answer("worker", lambda call: {"of": call.task})
        [run] = cls.varied(1)
        cls.expected = cls.stack.wait(run, status="COMPLETED")["output"]

    def setUp(self):
        self.agents.forget()
        self.agents.answer("worker", lambda call: {"of": call.task})

    @classmethod
    def varied(cls, count):
        """Starts so many runs and decides what they ask; returns when all are decided."""
        runs = [insist(lambda n=n: cls.stack.start("varied", key=f"{cls.id}-{time.monotonic_ns()}-{n}")) for n in range(count)]
        for run in runs:
            insist(lambda run=run: cls.stack.approve(run, "ann"))
        return runs

    def check(self, runs, steps, performed=lambda key: 1, quiet=True):
        """All runs are over as they should be, and left nothing behind."""
        if quiet:
            # What a worker did not live to acknowledge is hidden for a minute.
            self.stack.until_quiet(90)
        counted = self.agents.performed()
        wrong = {key: count for key, count in counted.items() if count != performed(key)}
        self.assertEqual(wrong, {}, "these were not performed as often as they should have been")
        self.assertEqual(len(counted), len(runs) * steps, "not every step was performed")
        journals = Journals(self.stack)
        for run in runs:
            succeeded = journals.check(self, run)
            self.assertLessEqual(succeeded, steps)
            self.assertIsNone(self.stack.get(run).get("stuck"))
        for queue in ("StepsDeadLetterQueue", "ResumeDeadLetterQueue"):
            self.assertEqual(self.stack.depth(queue), (0, 0, 0), queue)

    # Crashes.

    def kill(self, call):
        """Kills the process that made this call. A port alone does not name it: to somewhere else another may use the same one."""
        for connection in psutil.net_connections("tcp4"):
            if (connection.laddr, connection.raddr) == (call.peer, self.agents.address) and connection.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(connection.pid).send_signal(signal.SIGKILL)
                return
        raise AssertionError(f"nobody is at {call.peer}")

    def test_a_step_function_is_killed_in_the_middle_of_a_step(self):
        """Twenty at once. Nobody looks after them but the queue: each comes again after two leases, which is a minute."""
        killed = {}

        def answer(call):
            victim = f"s{hash(call.run) % CHAIN}"
            if call.task == victim and call.key not in killed:
                killed[call.key] = time.monotonic()
                self.kill(call)
            return {"of": call.task}

        self.agents.answer("worker", answer)
        runs = [self.stack.start("chain") for _ in range(20)]
        self.stack.until(lambda: len(killed) == 20, 60, lambda: f"{len(killed)} of 20 steps were begun")
        self.stack.wait_all(runs, 100)
        late = {call.key: call.at - killed[call.key] for call in self.agents.calls()
                if call.key in killed and call.at > killed[call.key]}
        self.assertLess(max(late.values()), 100, "performed again within two leases, and the poller's time")
        # The dead worker's claim held for a lease.
        self.assertGreater(min(late.values()), 29)
        self.check(runs, CHAIN, lambda key: 1 + (key in killed))

    def test_a_run_survives_more_crashes_than_a_message_may(self):
        """One run, killed twenty times: its message would be given up at the twentieth receipt. The clock is helped, so that the
        sweeper finds the dead worker at once."""
        killed = []

        def answer(call):
            if len(killed) < 20 and call.key not in killed:
                self.kill(call)
                killed.append(call.key)
            return {"of": call.task}

        self.agents.answer("worker", answer)
        run = self.stack.start("long")
        for crash in range(20):
            self.stack.until(lambda: len(killed) > crash, 60, lambda: f"after {len(killed)} crashes: {self.stack.describe(run)}")
            # What it has rung for in vain it looks at again within the hour.
            self.stack.advance(hours=1)
            self.stack.sweep()
        self.stack.wait(run, status="COMPLETED")
        # The messages of the dead are hidden for a minute yet; the next test sees to it that they came to nothing.
        self.check([run], 22, lambda key: 1 + (key in killed), quiet=False)

    # Messages.

    def test_every_message_is_delivered_twice(self):
        twice = lambda request: wire.TWICE if request.operation == "SendMessageBatch" else None  # noqa: E731
        again = wire.first_delivery_reappears()
        with self.wires.sqs.failing(lambda request: twice(request) or again(request)) as struck:
            runs = self.varied(4)
            views = self.stack.wait_all(runs)
            self.stack.until_quiet(90)
        self.assertEqual([view["output"] for view in views], [self.expected] * len(runs))
        kinds = collections.Counter(request.fault[0] for request in struck)
        self.assertGreater(min(kinds["twice"], kinds["instead"]), len(runs) * 5, kinds)
        self.check(runs, VARIED_STEPS)

    def test_poison_blocks_nobody_and_a_repaired_run_goes_on(self):
        """Garbage in the queue, and a run whose journal was damaged while it waited to try again. The queue gives up sooner here."""
        self.agents.answer("worker", lambda call: stacks.Reply(status=503) if call.task == "flaky" else {"of": call.task})
        with self.gives_up("StepsQueue", after=3, visibility=2):
            sqs, steps = self.stack.client("sqs"), self.stack.queue("StepsQueue")
            sqs.send_message(QueueUrl=steps, MessageBody="no doorbell")
            damaged = self.stack.start("flaky")
            self.stack.until(lambda: any(each["event"]["type"] == "stepFailed" for each in self.stack.timeline(damaged)),
                             otherwise=lambda: self.stack.describe(damaged))
            repair = self.damage(damaged)
            # A process that remembers the run would go on with it: new ones have to read.
            self.stack.configure("step", RENEWED=str(time.monotonic_ns()))
            beside = self.varied(4)
            self.stack.wait_all(beside)
            dead = self.stack.until(lambda: self.stack.depth("StepsDeadLetterQueue")[0] == 2 and "both are there", 60,
                                    lambda: f"{self.stack.depth('StepsDeadLetterQueue')} {self.stack.describe(damaged)}")
            self.assertTrue(dead)
            view = self.stack.get(damaged)
            self.assertEqual((view["status"], view["stuck"]), ("RUNNING", "TABLE_DAMAGED"))
            self.assertIn(damaged, [run["runId"] for run in self.stack.runs("flaky") if run.get("stuck")])
        # Somebody looks, repairs the journal, takes the garbage out, and has the rest delivered again.
        repair()
        self.agents.answer("worker", lambda call: {"of": call.task})
        self.take_out("StepsDeadLetterQueue", "no doorbell")
        self.stack.until(lambda: self.stack.depth("StepsDeadLetterQueue") == (1, 0, 0))
        arn = sqs.get_queue_attributes(QueueUrl=self.stack.queue("StepsDeadLetterQueue"), AttributeNames=["QueueArn"])
        sqs.start_message_move_task(SourceArn=arn["Attributes"]["QueueArn"])
        done = self.stack.wait(damaged, status="COMPLETED")
        self.assertNotIn("stuck", done)
        self.stack.until_quiet()
        for run in [*beside, damaged]:
            Journals(self.stack).check(self, run)
        self.assertEqual({self.agents.performed(run=run)[key] for run in beside for key in self.agents.performed(run=run)}, {1})

    @contextlib.contextmanager
    def gives_up(self, queue, after, visibility):
        """A queue with other limits for a while."""
        sqs, url = self.stack.client("sqs"), self.stack.queue(queue)
        before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy", "VisibilityTimeout"])["Attributes"]
        policy = json.dumps({**json.loads(before["RedrivePolicy"]), "maxReceiveCount": after})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": str(visibility)})
        # A poll that had begun by then still hides what it finds for as long as before.
        polled = self.polls(queue)
        self.stack.until(lambda: self.polls(queue) >= polled + 2)
        try:
            yield
        finally:
            sqs.set_queue_attributes(QueueUrl=url, Attributes=before)

    def polls(self, queue):
        """How often a queue was asked and had nothing."""
        with urllib.request.urlopen(f"{self.stack.known['endpoint']}/_stepwell/counts") as answer:
            return json.load(answer).get(f"sqs.ReceiveNothing {self.stack.queue(queue).rpartition('/')[2]}", 0)

    def damage(self, run):
        """Changes a byte of each record; returns what makes it good again."""
        table = self.stack.client("dynamodb")
        items = [item for item in self.stack.items(run) if item["pk"]["S"] == f"J#{run}#/" and item["sk"]["S"].isdigit()]
        for item in items:
            table.put_item(TableName=self.stack.table, Item={**item, "b": {"S": body_of(item).decode().replace('"v":1', '"v": 1', 1)}})
        return lambda: [table.put_item(TableName=self.stack.table, Item=item) for item in items]

    def take_out(self, queue, body):
        """Takes the messages with this body out of a queue, and leaves the others."""
        sqs, url = self.stack.client("sqs"), self.stack.queue(queue)
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=30)["Messages"]
        for message in messages:
            if message["Body"] == body:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            else:
                sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)

    def test_rings_fail_after_the_append(self):
        """Of a start and of a decision, whose requests are over then: the sweeper finds them. Of a fork, a timer, a step's worker that
        tells a parent: the doorbell that they hold comes again."""
        silent = lambda request: wire.DROP if request.operation == "SendMessageBatch" else None  # noqa: E731
        with self.wires.sqs.failing(silent) as struck:
            key = f"silent-{time.monotonic_ns()}"
            run = insist(lambda: self.stack.start("gated", key=key))
        self.assertTrue(struck)
        self.stack.until_quiet()
        self.assertEqual(self.agents.calls(run=run), [])
        self.look_later()
        question = self.stack.question(run)
        with self.wires.sqs.failing(silent) as struck:
            insist(lambda: self.stack.decide(run, question["approvalId"], "approve", approver="ann").status == 200 or self.fail())
        self.assertTrue(struck)
        self.stack.until_quiet()
        self.assertEqual(len(self.agents.calls(run=run)), 1)
        self.look_later()
        self.stack.wait(run, status="COMPLETED")
        self.check([run], 2)
        # By turns, whatever it is that rings: children, timers, a child run, a parent.
        self.agents.forget()
        self.agents.answer("worker", lambda call: {"of": call.task})
        with self.wires.sqs.failing(wire.outage(0.3, 1.2)) as struck:
            runs = [insist(lambda n=n: self.stack.start("varied", key=f"outage-{time.monotonic_ns()}-{n}")) for n in range(6)]
            self.stack.until(lambda: len(struck) > 12)
        # Those whose ring was lost when a request was over, and child runs.
        self.look_later()
        for run in runs:
            self.stack.approve(run, "ann")
        for view in self.stack.wait_all(runs):
            self.assertEqual(view["output"], self.expected)
        self.check(runs, VARIED_STEPS)

    def look_later(self):
        """The minute after which the sweeper looks at what nobody held a doorbell of."""
        self.stack.advance(seconds=61)
        self.stack.sweep()

    # The table.

    def test_the_table_is_throttled(self):
        rules = {"some": wire.every(3, wire.THROTTLED), "all": lambda request: wire.THROTTLED_TOO}
        with self.wires.dynamodb.failing(rules["some"]) as struck:
            runs = self.varied(8)
            for view in self.stack.wait_all(runs):
                self.assertEqual(view["output"], self.expected)
        self.assertGreater(len(struck), 100)
        # For longer than a request is tried again.
        slow = threading.Event()
        self.agents.answer("worker", lambda call: slow.wait(30) and {"of": call.task})
        chains = [self.stack.start("chain") for _ in range(8)]
        self.stack.until(lambda: len(self.agents.calls("worker", chains[-1])) == 1)
        with self.wires.dynamodb.failing(rules["all"]) as struck:
            slow.set()
            time.sleep(6)
        self.assertGreater(len(struck), 20)
        self.stack.wait_all(chains)
        self.stack.until_quiet()
        self.assertEqual(set(self.agents.performed().values()), {1})
        journals = Journals(self.stack)
        for run in runs + chains:
            journals.check(self, run)

    def test_answers_to_appends_are_lost(self):
        lost = wire.every(3, wire.LOSE, lambda request: request.records)
        with self.wires.dynamodb.failing(lost) as struck:
            runs = self.varied(8)
            for view in self.stack.wait_all(runs):
                self.assertEqual(view["output"], self.expected)
        self.assertGreater(len(struck), 8 * VARIED_STEPS / 3)
        self.check(runs, VARIED_STEPS)


class Journals:
    """The journals of all runs, as they stand in the table."""

    def __init__(self, stack):
        pages = stack.client("dynamodb").get_paginator("scan").paginate(TableName=stack.table, ConsistentRead=True)
        self._scopes = collections.defaultdict(dict)
        for page in pages:
            for item in page["Items"]:
                partition, sort = item["pk"]["S"], item["sk"]["S"]
                if partition.startswith("J#") and sort.isdigit():
                    self._scopes[partition][int(sort)] = item

    def check(self, test, run):
        """No holes, each record names the one before, no step succeeded twice. Answers how many succeeded."""
        scopes = {partition: records for partition, records in self._scopes.items() if partition.startswith(f"J#{run}#")}
        test.assertIn(f"J#{run}#/", scopes)
        total = 0
        for partition, records in scopes.items():
            test.assertEqual(sorted(records), list(range(1, len(records) + 1)), f"{partition} has holes")
            before, states, state = "", collections.Counter(), None
            for number in sorted(records):
                body = body_of(records[number])
                record = json.loads(body)
                test.assertEqual((record["seq"], record["prev"]), (number, before), partition)
                before = hashlib.sha256(body).hexdigest()
                for event in record["events"]:
                    if event["type"] == "stateEntered":
                        state = (event["state"], event["visit"])
                    elif event["type"] == "stepSucceeded":
                        states[state] += 1
            test.assertFalse([state for state, count in states.items() if count != 1], f"{partition}: succeeded twice")
            total += states.total()
        return total


def body_of(item):
    """The bytes of a record."""
    body = item["b"]
    return body["S"].encode() if "S" in body else zlib.decompress(body["B"], -15)


def insist(ask, timeout=60):
    """What is asked for, asked again while the API cannot take it: what comes twice counts once."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask()
        except (stacks.Unexpected, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    unittest.main()
