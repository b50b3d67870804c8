"""People, webhooks, schedules and events, on the deployed stack: who starts runs and who decides, once each."""

import datetime
import hashlib
import hmac
import json
import secrets
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import stack


def setUpModule():
    global the, agents
    the, agents = stack.the(), stack.Agents()
    agents.register(the, "worker")


def tearDownModule():
    agents.close()


def at_once(*calls):
    """Makes calls at the same time and returns what each gave."""
    ready = threading.Barrier(len(calls))

    def go(call):
        ready.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))


class Test(unittest.TestCase):
    def setUp(self):
        agents.forget()

    def scheduled(self, source):
        """Registers a workflow that starts by itself, until the test is over."""
        workflow = the.register_workflow(source)
        self.addCleanup(the.disable_workflow, workflow)
        return workflow


class Approvals(Test):
    """What people decide, by the REST API."""

    def setUp(self):
        super().setUp()
        self.workflow = the.register_workflow("""
id: people-asked
states:
  - id: gate
    type: human_approval
    message: "Deploy {{ workflow.input.version }}?"
    approvers: ["user:alice@example.com", "team:platform"]
    quorum: 2
    next: deploy
  - {id: deploy, type: agent, agent: worker, end: true}
""")

    def test_a_decision_counts_once_and_only_from_those_who_may(self):
        run = the.start(self.workflow, {"version": 7})
        asked = the.question(run)
        self.assertEqual((asked["message"], asked["quorum"]), ("Deploy 7?", 2))

        def decide(verb, approver, **body):
            return the.decide(run, asked["approvalId"], verb, approver=approver, **body)

        stranger = decide("approve", "user:mallory@example.com")
        self.assertEqual((stranger.status, stranger.code), (403, "NOT_AN_APPROVER"), stranger.body)
        first, again = (decide("approve", "user:alice@example.com") for _ in range(2))
        self.assertEqual([first.status, again.status, first.body["changed"], again.body["changed"]], [200, 200, True, False])
        self.assertEqual(the.get(run)["status"], "WAITING_APPROVAL", "one of two")
        self.assertEqual(agents.calls(), [])
        # Two of the other team at the same moment: one vote is the last that is needed, the other comes too late or is the same.
        votes = at_once(*[lambda name=name: decide("approve", f"user:{name}", teams=["team:platform"]) for name in ("bob", "carol")])
        self.assertEqual(sorted(vote.status for vote in votes), [200, 409], [vote.body for vote in votes])
        late = decide("reject", "user:alice@example.com")
        self.assertEqual((late.status, late.code), (409, "APPROVAL_SETTLED"))
        the.wait(run, status="COMPLETED")
        self.assertEqual(len(agents.calls()), 1)
        self.assertEqual([each["status"] for each in the.approvals(run)], ["APPROVED"])
        self.assertEqual(len(the.approvals(run)[0]["votes"]), 2)

    def test_a_rejection_fails_the_run_with_its_reason(self):
        run = the.start(self.workflow, {"version": 8})
        asked = the.question(run)
        rejected = the.decide(run, asked["approvalId"], "reject", approver="user:alice@example.com", comment="not on a Friday")
        self.assertEqual(rejected.status, 200, rejected.body)
        error = the.wait(run, status="FAILED")["error"]
        self.assertEqual(error["type"], "rejected")
        self.assertIn("not on a Friday", error["message"])
        self.assertEqual(agents.calls(), [])
        unknown = the.decide(run, "nothing", "approve", approver="user:alice@example.com")
        self.assertEqual(unknown.status, 404, unknown.body)


class Webhooks(Test):
    """`POST /hooks/{workflow}/{name}`, unsigned by IAM."""

    def setUp(self):
        super().setUp()
        self.workflow = the.register_workflow("""
id: people-hooked
inputSchema: {type: object, properties: {tag: {type: string}}, required: [tag]}
triggers: [{type: webhook, name: deploys, secret: "${env:HOOK_SECRET}"}]
states:
  - {id: only, type: agent, agent: worker, end: true}
""")

    def deliver(self, body, *, delivery=None, secret=stack.SECRET, at=None, name="deploys", headers=None):
        time = str(int((at or the.now()).timestamp()))
        text = json.dumps(body)
        signed = ".".join([time, *([delivery] if delivery else []), text])
        signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        sent = {"Content-Type": "application/json", "Stepwell-Timestamp": time, "Stepwell-Signature": f"sha256={signature}",
                **({"Stepwell-Delivery": delivery} if delivery else {}), **(headers or {})}
        return the.request("POST", f"/hooks/{self.workflow}/{name}", text, headers=sent, signed=False)

    def test_what_a_delivery_started_ends_when_somebody_approves(self):
        self.workflow = the.register_workflow("""
id: people-hooked-asks
triggers: [{type: webhook, name: deploys, secret: "${env:HOOK_SECRET}"}]
states:
  - {id: gate, type: human_approval, message: "Deploy?", next: only}
  - {id: only, type: agent, agent: worker, end: true}
""")
        started = self.deliver({"tag": "v3"})
        self.assertEqual(started.status, 202, started.body)
        the.approve(started.body["runId"], "user:ann")
        the.wait(started.body["runId"], status="COMPLETED")
        self.assertEqual(len(agents.calls("worker")), 1)

    def test_who_does_not_know_the_secret_starts_nothing(self):
        before = len(the.runs(self.workflow))
        minute = datetime.timedelta(minutes=1)
        for answer, status, code in [
            (self.deliver({"tag": "v1"}, secret="another one"), 401, "WEBHOOK_SIGNATURE"),
            (self.deliver({"tag": "v1"}, headers={"Stepwell-Signature": ""}), 401, "WEBHOOK_SIGNATURE"),
            (self.deliver({"tag": "v1"}, headers={"Stepwell-Timestamp": "1"}), 401, "WEBHOOK_SIGNATURE"),
            (self.deliver({"tag": "v1"}, at=the.now() - 6 * minute), 401, "WEBHOOK_TIMESTAMP"),
            (self.deliver({"tag": "v1"}, at=the.now() + 6 * minute), 401, "WEBHOOK_TIMESTAMP"),
            (self.deliver({"tag": "v1"}, name="other"), 404, "WEBHOOK_NOT_FOUND"),
            (self.deliver({"tag": 7}), 422, "INPUT_SCHEMA_VIOLATION"),
        ]:
            self.assertEqual((answer.status, answer.code), (status, code), answer.body)
        self.assertEqual(len(the.runs(self.workflow)), before)

    def test_a_delivery_starts_one_run_however_often_it_comes(self):
        delivery = secrets.token_hex(8)
        recorded = the.now()
        answers = at_once(*[lambda: self.deliver({"tag": "v2"}, delivery=delivery, at=recorded)] * 4)
        self.assertEqual(sorted(each.status for each in answers), [200, 200, 200, 202], [each.body for each in answers])
        runs = {each.body["runId"] for each in answers}
        self.assertEqual(len(runs), 1)
        # A sender that tries again signs again.
        again = self.deliver({"tag": "v2"}, delivery=delivery)
        self.assertEqual((again.status, again.body["runId"]), (200, *runs))
        other = self.deliver({"tag": "v3"}, delivery=delivery)
        self.assertEqual((other.status, other.code), (409, "KEY_REUSED"))
        view = the.wait(runs.pop(), status="COMPLETED")
        self.assertEqual(view["input"], {"tag": "v2"})
        self.assertEqual(len(agents.calls()), 1)
        # What somebody has recorded is of no use a little later.
        the.advance(minutes=6)
        replayed = self.deliver({"tag": "v2"}, delivery=delivery, at=recorded)
        self.assertEqual((replayed.status, replayed.code), (401, "WEBHOOK_TIMESTAMP"))


class Schedules(Test):
    """Ticks, by the helped clock; the rule that sweeps each minute goes on beside."""

    def ticks(self, workflow):
        return sorted(each["trigger"]["tick"] for each in (the.get(run["runId"]) for run in the.runs(workflow)))

    def test_the_rule_sweeps_by_itself(self):
        def swept():
            return [line for line in the.logs("sweep") if isinstance(line, dict) and line.get("message") == "swept"
                    and line["requestId"] not in the.invoked]
        the.sweep()
        own = [line for line in the.logs("sweep") if isinstance(line, dict) and line.get("requestId") in the.invoked]
        self.assertTrue(own, "what was asked for is known again")
        self.assertTrue(the.until(swept, 130))

    def test_a_tick_starts_one_run_though_many_sweep_at_the_same_time(self):
        name = f"people-hourly-{secrets.token_hex(3)}"
        workflow = self.scheduled(f"""
id: {name}
states:
  - {{id: hourly, type: cron, cron: "0 * * * *", input: {{from: schedule}}, next: work}}
  - {{id: work, type: agent, agent: worker, end: true}}
""")
        hour = next_hour()
        the.advance_to(hour + datetime.timedelta(seconds=2))
        at_once(*[the.sweep] * 4)
        the.sweep()
        runs = the.runs(workflow)
        self.assertEqual(len(runs), 1)
        view = the.wait(runs[0]["runId"], status="COMPLETED")
        self.assertEqual(view["input"], {"from": "schedule"})
        self.assertEqual(datetime.datetime.fromisoformat(view["trigger"]["tick"]), hour)
        self.assertEqual(len(agents.calls()), 1)

    def test_missed_ticks_are_skipped_or_caught_up_with_as_the_schedule_says(self):
        mark = secrets.token_hex(3)
        skips, catches = (self.scheduled(f"""
id: people-{missed}-{mark}
states:
  - {{id: hourly, type: cron, cron: "0 * * * *", missed: {missed}, next: work}}
  - {{id: work, type: agent, agent: worker, end: true}}
""") for missed in ("skip", "catchUp"))
        first = next_hour()
        # Nobody sweeps for four and a half hours: five ticks.
        the.advance_to(first + datetime.timedelta(hours=4, minutes=30))
        at_once(the.sweep, the.sweep)
        the.sweep()
        hours = [first + datetime.timedelta(hours=hour) for hour in range(5)]
        self.assertEqual([datetime.datetime.fromisoformat(tick) for tick in self.ticks(catches)], hours)
        self.assertEqual(self.ticks(skips), [])
        the.wait_all([run["runId"] for run in the.runs(catches)])
        self.assertEqual(len(agents.calls()), 5)
        # The next one finds both as they should be.
        the.advance_to(first + datetime.timedelta(hours=5, seconds=2))
        the.sweep()
        self.assertEqual((len(self.ticks(skips)), len(self.ticks(catches))), (1, 6))


class Events(Test):
    """Events of the bus."""

    def setUp(self):
        super().setUp()
        self.mark = secrets.token_hex(4)
        self.workflow = self.scheduled(f"""
id: people-pushed-{self.mark}
triggers: [{{type: event, filter: {{source: [registry, mirror], detail: {{mark: "{self.mark}"}}}}}}]
states:
  - {{id: only, type: agent, agent: worker, task: "{{{{ workflow.input.detail.image }}}}", end: true}}
""")

    def event(self, **more):
        return {"Source": "registry", "DetailType": "pushed", "EventBusName": the.outputs["BusName"],
                "Detail": json.dumps({"mark": self.mark, "image": "checkout:7"}), **more}

    def test_an_event_on_the_bus_starts_a_run_with_it_as_its_input(self):
        put = the.client("events").put_events(Entries=[
            self.event(), self.event(Source="elsewhere"), self.event(Detail='{"mark": "another"}'),
        ])
        self.assertEqual(put["FailedEntryCount"], 0)
        runs = the.until(lambda: the.runs(self.workflow), otherwise="the event started nothing")
        view = the.wait(runs[0]["runId"], status="COMPLETED")
        self.assertEqual((view["input"]["source"], view["trigger"]["type"]), ("registry", "event"))
        self.assertEqual(view["input"]["id"], put["Entries"][0]["EventId"])
        self.assertEqual([call.task for call in agents.calls()], ["checkout:7"])
        self.assertEqual(len(the.runs(self.workflow)), 1, "the others are not for it")

    def test_an_event_that_comes_twice_starts_one_run(self):
        # As EventBridge, which delivers at least once, hands it over.
        event = {"version": "0", "id": secrets.token_hex(8), "detail-type": "pushed", "source": "mirror", "account": "000000000000",
                 "time": "2026-01-01T00:00:00Z", "region": "us-east-1", "resources": [],
                 "detail": {"mark": self.mark, "image": "checkout:8"}}
        at_once(*[lambda: the.invoke("start", event)] * 3)
        the.invoke("start", event)
        runs = the.runs(self.workflow)
        self.assertEqual(len(runs), 1)
        the.wait(runs[0]["runId"], status="COMPLETED")
        self.assertEqual(len(agents.calls()), 1)

    def test_what_happens_to_a_run_is_told_on_the_bus(self):
        sqs, events = the.client("sqs"), the.client("events")
        name = f"people-told-{self.mark}"
        queue = sqs.create_queue(QueueName=name)["QueueUrl"]
        self.addCleanup(sqs.delete_queue, QueueUrl=queue)
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        bus = {"EventBusName": the.outputs["BusName"]}
        events.put_rule(Name=name, EventPattern='{"source": ["stepwell"]}', **bus)
        events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}], **bus)
        self.addCleanup(events.delete_rule, Name=name, **bus)
        self.addCleanup(events.remove_targets, Rule=name, Ids=["queue"], **bus)
        asks = the.register_workflow("""
id: people-told
states: [{id: gate, type: human_approval, message: "a secret {{ workflow.input.word }}", end: true}]
""")
        run = the.start(asks, {"word": "xyzzy"})
        told = {}

        def heard(*kinds):
            for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", []):
                event = json.loads(message["Body"])
                if event["detail"]["runId"] == run:
                    # At least once: the id says what is the same.
                    told[event["detail"]["id"]] = event
                self.assertNotIn("xyzzy", message["Body"], "a value of a run")
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return set(kinds) <= {event["detail"].get("status", event["detail-type"]) for event in told.values()}

        # What is decided before it was told that it is asked may be left out.
        the.until(lambda: heard("Workflow Approval Requested"), 60, lambda: f"only this was told: {told}")
        the.approve(run, "user:alice@example.com")
        the.wait(run, status="COMPLETED")
        the.until(lambda: heard("COMPLETED", "Workflow Approval Settled"), 60, lambda: f"only this was told: {told}")
        self.assertEqual([event["detail"]["settled"] for event in told.values() if "settled" in event["detail"]], ["APPROVED"])


def next_hour():
    """The next full hour that is not about to begin."""
    later = the.now() + datetime.timedelta(minutes=62)
    return later.replace(minute=0, second=0, microsecond=0)
