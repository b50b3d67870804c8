"""What runs cost, counted at the wire: items and units of the table, requests of the queues, invocations of the functions. A test
fails when it grows; the numbers are printed, and stand in target/counts.json for docs/deploy-aws.md.

Counted are warm functions: what a cold start reads of definitions is not. The scheduled sweep is silent meanwhile, as it
would look at runs in the middle; what it costs by itself is counted apart.
"""

import collections
import json
import math
import unittest
import urllib.request

import stack as stacks
import wire

NUMBERS = stacks.ROOT / "target" / "counts.json"
SILENT = "sweep"
LONG_STEPS = 400
LONG = f"count-{LONG_STEPS}"
DEAR = {"SendMessageBatch": "send", "ChangeMessageVisibilityBatch": "hide", "ReceiveMessage": "receive", "DeleteMessageBatch": "delete",
        "DeleteMessage": "delete", "ReceiveNothing": "receive nothing"}

# What may be counted at most: a cost that grows is to be seen. Not all of it is the same each time: which process has which scope in
# memory is LocalStack's choice.
LIMITS = {
    "10 steps": {"items written": 16, "write units of the table": 22, "write units of the indexes": 11, "read units": 5,
                 "queue requests": 4, "invocations": 2},
    "50 steps": {"items written": 56, "write units of the table": 62, "write units of the indexes": 11, "read units": 5,
                 "queue requests": 4, "invocations": 2},
    "2 steps and an approval": {"items written": 16, "write units of the table": 30, "write units of the indexes": 29,
                                "read units": 14, "queue requests": 8, "invocations": 4},
    "2 steps and a wait of an hour": {"items written": 13, "write units of the table": 28, "write units of the indexes": 23,
                                      "read units": 10, "queue requests": 12, "invocations": 5},
    "a sweep that finds nothing": {"read requests": 34, "queue requests": 0},
    "an iteration": {"items written": 3.2, "queue requests": 10, "invocations": 2.5},
    "a branch": {"items written": 3.2, "queue requests": 10, "invocations": 2.5},
}


def chain(name, steps):
    after = [{"next": f"s{n + 1}"} for n in range(steps - 1)] + [{"end": True}]
    return {"id": name, "states": [{"id": f"s{n}", "type": "agent", "agent": "counted", "task": f"s{n}", **after[n]} for n in range(steps)]}


def foreach(name, items):
    return {"id": name, "states": [
        {"id": "given", "type": "transform", "expression": f"range({items})", "resultPath": "items", "next": "each"},
        {"id": "each", "type": "foreach", "itemsPath": "items", "agent": "counted", "end": True}]}


def parallel(name, branches):
    each = [{"name": f"b{n}", "agent": "counted"} for n in range(branches)]
    return {"id": name, "states": [{"id": "fan", "type": "parallel", "branches": each, "end": True}]}


ASKING = {"id": "count-approval", "states": [
    {"id": "before", "type": "agent", "agent": "counted", "next": "gate"},
    {"id": "gate", "type": "human_approval", "message": "go on?", "next": "after"},
    {"id": "after", "type": "agent", "agent": "counted", "end": True}]}
WAITING = {"id": "count-wait", "states": [
    {"id": "before", "type": "agent", "agent": "counted", "next": "rest"},
    {"id": "rest", "type": "wait", "duration": "1h", "next": "after"},
    {"id": "after", "type": "agent", "agent": "counted", "end": True}]}


class Counts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = stacks.the()
        agents = stacks.Agents()
        cls.addClassCleanup(agents.close)
        agents.answer("counted", {"done": True})
        agents.register(cls.stack, "counted")
        rules = cls.stack.client("events")
        for rule in rules.list_rules()["Rules"]:
            if rule.get("ScheduleExpression"):
                rules.disable_rule(Name=rule["Name"])
                cls.addClassCleanup(rules.enable_rule, Name=rule["Name"])
        cls.wires = wire.Wires(cls.stack, [name for name in stacks.FUNCTIONS if name != SILENT])
        cls.addClassCleanup(cls.wires.close)
        cls.sweeps = wire.Wires(cls.stack, [SILENT])
        cls.addClassCleanup(cls.sweeps.close)
        meter = Meter(cls.stack)
        cls.wires.dynamodb.meter = cls.sweeps.dynamodb.meter = meter
        sizes = {"count-10": chain("count-10", 10), "count-50": chain("count-50", 50), LONG: chain(LONG, LONG_STEPS)}
        for source in (*sizes.values(), ASKING, WAITING, foreach("count-each-10", 10), foreach("count-each-30", 30),
                       parallel("count-fan-2", 2), parallel("count-fan-8", 8)):
            cls.stack.register_workflow(source)
        cls.numbers = {}
        cls.addClassCleanup(cls.tell)

    @classmethod
    def tell(cls):
        NUMBERS.parent.mkdir(exist_ok=True)
        NUMBERS.write_text(json.dumps(cls.numbers, indent=2) + "\n")
        print("\n" + NUMBERS.read_text())

    def test_sequential_runs(self):
        for steps in (10, 50):
            found = self.count(f"{steps} steps", f"count-{steps}")
            self.assertLessEqual(found["items written"], steps + 6)
            self.assertLessEqual(found["queue requests"], 6)
            self.assertEqual([found[f"invocations of {name}"] for name in ("start", "step", "resume")], [1, 1, 0])

    def test_a_long_run_writes_its_snapshots_and_nothing_else_besides(self):
        """A snapshot each 128 KiB of records, and so for hundreds of these steps: 1/N of an item for each."""
        self.complete(LONG, lambda run: None)
        found = self.note(f"{LONG_STEPS} steps", self.counted(self.wires, lambda: self.complete(LONG, lambda run: None)))
        self.assertGreater(found["items written"], LONG_STEPS + 6, "there are snapshots")
        self.assertLessEqual(found["items written"], LONG_STEPS * (1 + 1 / 100) + 6)
        self.assertLessEqual(found["queue requests"], 6)

    def test_a_run_that_asks(self):
        self.count("2 steps and an approval", "count-approval", self.approve)

    def test_a_run_that_waits_for_an_hour(self):
        self.count("2 steps and a wait of an hour", "count-wait", self.pass_the_hour)

    def test_iterations_and_branches(self):
        few, many = self.count("10 iterations", "count-each-10"), self.count("30 iterations", "count-each-30")
        self.note("an iteration", {name: round((many[name] - few[name]) / 20, 2) for name in many})
        few, many = self.count("2 branches", "count-fan-2"), self.count("8 branches", "count-fan-8")
        self.note("a branch", {name: round((many[name] - few[name]) / 6, 2) for name in many})

    def test_a_sweep_that_finds_nothing(self):
        # What other runs have left behind is cleared away first.
        self.stack.sweep()
        self.note("a sweep that finds nothing", self.counted(self.sweeps, self.stack.sweep))

    # What is counted.

    def count(self, name, workflow, act=lambda run: None):
        """Runs it until the functions are warm, then counts one."""
        for _ in range(2):
            self.complete(workflow, act)
        return self.note(name, self.counted(self.wires, lambda: self.complete(workflow, act)))

    def complete(self, workflow, act):
        """Looks at the table and not at the API, whose reads would count."""
        run = self.stack.start(workflow)
        act(run)
        self.stack.until(lambda: self.status(run) == "COMPLETED", otherwise=lambda: self.stack.describe(run))
        self.stack.until_quiet(90)

    def counted(self, wires, do):
        before = asked(self.stack)
        with wires.dynamodb.watched() as table:
            do()
        more = asked(self.stack) - before
        queues, invocations = collections.Counter(), collections.Counter()
        for line, count in more.items():
            operation, name = line.split(" ", 1)
            service, operation = operation.split(".")
            if service == "sqs" and operation in DEAR and name in (url.rpartition("/")[2] for url in self.queues()):
                queues[DEAR[operation]] += count
            elif operation == "Invoke":
                invocations[name.rpartition("-")[2]] += count
        # The poller's own, whether anything happens or not.
        del queues["receive nothing"]
        writes = [request for request in table if request.writes]
        found = {
            "items written": sum(len(request.writes) for request in writes if request.status == 200),
            "write requests": len(writes),
            "write units of the table": sum(request.units["table"] for request in writes),
            "write units of the indexes": sum(request.units["indexes"] for request in writes),
            "read requests": len(table) - len(writes),
            "read units": sum(request.units["read"] for request in table if not request.writes),
            "queue requests": queues.total(),
            **{f"queue: {name}": queues[name] for name in ("send", "hide", "receive", "delete")},
            "invocations": invocations.total(),
            **{f"invocations of {name}": invocations[name] for name in ("start", "step", "resume", "approval", "sweep")},
        }
        return found

    def note(self, name, found):
        self.numbers[name] = found
        for kind, most in LIMITS.get(name, {}).items():
            self.assertLessEqual(found[kind], most, f"{name}: {kind}")
        return found

    def queues(self):
        return [self.stack.queue("StepsQueue"), self.stack.queue("ResumeQueue")]

    # What somebody does meanwhile.

    def approve(self, run):
        def question():
            asked = [item["sk"]["S"] for item in self.items(run, "A#")]
            return asked and asked[0].removeprefix("A#")
        approval = self.stack.until(question)
        self.stack.until(lambda: self.status(run) == "WAITING_APPROVAL")
        self.assertEqual(self.stack.decide(run, approval, "approve", approver="ann").status, 200)

    def pass_the_hour(self, run):
        self.stack.until(lambda: self.status(run) == "WAITING_TIMER")
        self.stack.until_quiet(90)
        self.stack.advance(hours=1)
        self.stack.sweep()

    def status(self, run):
        [item] = self.items(run, "META")
        return item["s"]["S"]

    def items(self, run, prefix):
        return self.stack.client("dynamodb").query(
            TableName=self.stack.table, ConsistentRead=True, KeyConditionExpression="pk = :r AND begins_with(sk, :p)",
            ExpressionAttributeValues={":r": {"S": f"R#{run}"}, ":p": {"S": prefix}})["Items"]


def asked(stack):
    """What was asked of SQS and Lambda so far, by the plugin's count."""
    with urllib.request.urlopen(f"{stack.known['endpoint']}/_stepwell/counts") as answer:
        return collections.Counter(json.load(answer))


class Meter:
    """Capacity as AWS computes it, from the items before and after: DynamoDB Local reckons transactions and indexes otherwise.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html and …/GSI.html. What a transaction
    writes counts twice in the table, once in an index.
    """

    def __init__(self, stack):
        self._client, self._table = stack.client("dynamodb"), stack.table
        self._indexes = []
        for index in self._client.describe_table(TableName=self._table)["Table"]["GlobalSecondaryIndexes"]:
            keys = [key["AttributeName"] for key in index["KeySchema"]]
            self._indexes.append((keys, {*keys, "pk", "sk", *index["Projection"].get("NonKeyAttributes", [])}))

    def before(self, request):
        return [self._item(key) for _, key in request.writes]

    def after(self, request, before):
        if not request.writes:
            return {"read": self._read(request)}
        twice = 2 if request.operation == "TransactWriteItems" else 1
        table = indexes = 0
        for old, (_, key) in zip(before, request.writes, strict=True):
            new = self._item(key) if request.status == 200 else old
            table += twice * units(max(size(old), size(new)), 1024)
            indexes += sum(self._index(old, new, keys, projected) for keys, projected in self._indexes)
        return {"table": table, "indexes": indexes}

    def _item(self, key):
        found = self._client.get_item(TableName=self._table, Key={"pk": key["pk"], "sk": key["sk"]}, ConsistentRead=True)
        return found.get("Item", {})

    def _index(self, old, new, keys, projected):
        old, new = ({name: value for name, value in item.items() if name in projected} if all(key in item for key in keys) else {}
                    for item in (old, new))
        if old == new:
            return 0
        moved = old and new and any(old[key] != new[key] for key in keys)
        if moved:
            return units(size(old), 1024) + units(size(new), 1024)
        return units(max(size(old), size(new)), 1024)

    def _read(self, request):
        """By what came back. A query's items are added up, and cost half if they need not be the newest."""
        answer = request.answer or {}
        share = 1 if request.body.get("ConsistentRead") else 0.5
        if request.operation == "Query":
            return share * units(sum(size(item) for item in answer.get("Items", [])), 4096)
        if request.operation == "GetItem":
            return share * units(size(answer.get("Item", {})), 4096)
        found = [item for items in answer.get("Responses", {}).values() for item in items]
        return sum(units(size(item), 4096) for item in found)


def units(size, unit):
    """Nothing costs one too."""
    return max(1, math.ceil(size / unit))


def size(item):
    """An item's bytes: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html"""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value):
    [(kind, held)] = value.items()
    match kind:
        case "S":
            return len(held.encode())
        case "N":
            return len(held.strip("-").strip("0")) // 2 + 2
        case "B":
            return len(held) if isinstance(held, bytes) else len(held) * 3 // 4
        case "L":
            return 3 + sum(1 + value_size(each) for each in held)
        case "M":
            return 3 + sum(1 + len(name.encode()) + value_size(each) for name, each in held.items())
    return 1


if __name__ == "__main__":
    unittest.main()
