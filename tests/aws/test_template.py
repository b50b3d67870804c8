"""What template.yaml must say, and what neither a linter nor LocalStack would notice if it did not.

Read from the template as it is written; run by scripts/lint-template.
"""

import json
import os
import pathlib
import re
import unittest

import yaml
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# SAM wants one, and asks nobody about it.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

# Statements that may hold a wildcard, each with its reason.
WILDCARDS = {
    ("BucketPolicy", "OnlyEncryptedConnections"): "denies, whatever it is",
}


class Loader(yaml.SafeLoader):
    """`!Ref x` becomes {"Ref": "x"}, every other tag {"Fn::…": value}, as in a template in JSON."""


def _tag(loader, name, node):
    if isinstance(node, yaml.ScalarNode):
        value = node.value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if name == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


Loader.add_multi_constructor("!", _tag)

TEMPLATE = yaml.load((ROOT / "template.yaml").read_text(), Loader)
RESOURCES = TEMPLATE["Resources"]
GLOBALS = TEMPLATE["Globals"]["Function"]


def of_type(kind):
    return {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == kind}


def arn(name):
    return {"Fn::GetAtt": [name, "Arn"]}


def listed(value):
    return value if isinstance(value, list) else [value]


FUNCTIONS = of_type("AWS::Serverless::Function")
QUEUES = of_type("AWS::SQS::Queue")
ALARMS = of_type("AWS::CloudWatch::Alarm")


def events(function, kind):
    return [event["Properties"] for event in FUNCTIONS[function].get("Events", {}).values() if event["Type"] == kind]


def mappings():
    """(function, its SQS event, the queue) for each."""
    return [(name, event, event["Queue"]["Fn::GetAtt"][0]) for name in FUNCTIONS for event in events(name, "SQS")]


def timeout(function):
    return FUNCTIONS[function]["Timeout"]


def dead_letter_queues():
    """Each queue that something names as the place for what it could not handle."""
    named = re.findall(
        r'"(?:deadLetterTargetArn|Arn|Destination)": \{"Fn::GetAtt": \["(\w+)", "Arn"\]\}', json.dumps(RESOURCES)
    )
    return {name for name in named if name in QUEUES}


def alarmed(metric, dimension, resource):
    """The alarms on this metric of this resource."""
    def about(alarm):
        values = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
        return values.get(dimension) in ({"Ref": resource}, {"Fn::GetAtt": [resource, "QueueName"]})

    return [alarm for alarm in ALARMS.values() if alarm["MetricName"] == metric and about(alarm)]


# What a function may do, and nothing else. Each appends, reads, rings and tells; which of these requests the code makes was compared
# by reading crates/dynamodb, crates/sqs and crates/eventbridge.
EVERYBODY = {
    "dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem",
    "events:PutEvents", "logs:CreateLogStream", "logs:PutLogEvents", "s3:GetObject", "s3:ListBucket", "s3:PutObject", "sqs:SendMessage",
}
WOKEN = {"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
FORGETS = {"dynamodb:BatchWriteItem", "dynamodb:ConditionCheckItem", "s3:DeleteObject"}
MAY = {"Start": set(), "Approval": set(), "Api": set(), "Step": WOKEN, "Resume": WOKEN, "Sweep": FORGETS}


class Rights(unittest.TestCase):
    def test_each_may_do_what_it_does_and_no_more(self):
        found = {}
        for name, properties in FUNCTIONS.items():
            role = properties["Role"]["Fn::GetAtt"][0]
            allowed = [each["Action"] for owner, each in self.statements() if owner == role and each["Effect"] == "Allow"]
            found[name] = {action for actions in allowed for action in listed(actions)}
        self.assertEqual(found, {f"{name}Function": EVERYBODY | more for name, more in MAY.items()})

    def test_each_function_has_a_role_of_its_own_that_only_lambda_assumes(self):
        roles = [properties["Role"]["Fn::GetAtt"][0] for properties in FUNCTIONS.values()]
        self.assertEqual(len(set(roles)), len(FUNCTIONS))
        self.assertEqual(set(roles), set(of_type("AWS::IAM::Role")))
        for name, role in of_type("AWS::IAM::Role").items():
            self.assertNotIn("ManagedPolicyArns", role, name)
            trusted = [each["Principal"] for each in role["AssumeRolePolicyDocument"]["Statement"]]
            self.assertEqual(trusted, [{"Service": "lambda.amazonaws.com"}], name)

    def test_every_right_names_its_action_and_a_resource_of_this_template(self):
        checked = 0
        for name, statement in self.statements():
            if (name, statement.get("Sid")) in WILDCARDS:
                self.assertEqual(statement["Effect"], "Deny")
                continue
            with self.subTest(role=name, statement=statement):
                self.assertEqual(statement["Effect"], "Allow")
                self.assertFalse(statement.keys() & {"NotAction", "NotResource", "NotPrincipal"})
                for action in listed(statement["Action"]):
                    self.assertRegex(action, r"^[a-z0-9]+:[A-Za-z]+$")
                for resource in listed(statement["Resource"]):
                    self.assertOurs(resource)
                checked += 1
        self.assertGreater(checked, 5 * len(FUNCTIONS))

    def test_a_function_logs_and_receives_only_where_it_should(self):
        for name, properties in FUNCTIONS.items():
            role = properties["Role"]["Fn::GetAtt"][0]
            rights = [statement for owner, statement in self.statements() if owner == role]
            logs = properties["LoggingConfig"]["LogGroup"]["Ref"]
            writes = [each["Resource"] for each in rights if "logs:PutLogEvents" in each["Action"]]
            self.assertEqual(writes, [arn(logs)], name)
            receives = [each["Resource"] for each in rights if "sqs:ReceiveMessage" in each["Action"]]
            self.assertEqual(receives, [arn(queue) for function, _, queue in mappings() if function == name], name)

    def test_whoever_appends_may_tell_it_on_the_bus(self):
        self.assertEqual(GLOBALS["Environment"]["Variables"]["STEPWELL_BUS"], {"Ref": "Bus"})
        for role in of_type("AWS::IAM::Role"):
            tells = [each["Resource"] for owner, each in self.statements() if owner == role and "events:PutEvents" in each["Action"]]
            self.assertEqual(tells, [arn("Bus")], role)

    def assertOurs(self, resource):
        if "Fn::GetAtt" in resource:
            self.assertIn(resource["Fn::GetAtt"][0], RESOURCES)
            return
        text = resource["Fn::Sub"]
        if index := re.fullmatch(r"\$\{Table\.Arn\}/index/(.*)", text):
            self.assertIn(index[1], [each["IndexName"] for each in RESOURCES["Table"]["Properties"]["GlobalSecondaryIndexes"]])
        else:
            # The objects of our bucket have no names that could be told beforehand.
            self.assertEqual(text, "${Bucket.Arn}/*")

    @staticmethod
    def statements():
        for name, role in of_type("AWS::IAM::Role").items():
            for policy in role["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement
        for kind in ("AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"):
            for name, policy in of_type(kind).items():
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement


class Queues(unittest.TestCase):
    def test_those_whom_a_queue_wakes_may_ring_it_without_end(self):
        self.assertEqual({name for name, _, _ in mappings()}, {"StepFunction", "ResumeFunction"})
        for name, properties in FUNCTIONS.items():
            # Lambda stops a loop through SQS after about 16 rounds; LocalStack does not, so that only this test tells.
            wanted = "Allow" if any(name == function for function, _, _ in mappings()) else None
            self.assertEqual(properties.get("RecursiveLoop"), wanted, name)

    def test_a_crash_costs_one_step_and_failures_are_reported_one_by_one(self):
        for name, event, _ in mappings():
            self.assertEqual(event["FunctionResponseTypes"], ["ReportBatchItemFailures"], name)
            self.assertIn("MaximumConcurrency", event["ScalingConfig"], name)
            self.assertEqual(event["BatchSize"], {"StepFunction": 1, "ResumeFunction": 10}[name])

    def test_visibility_is_what_aws_advises(self):
        # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html: six time-outs, five receipts or more.
        for name, _, queue in mappings():
            self.assertGreaterEqual(QUEUES[queue]["VisibilityTimeout"], 6 * timeout(name), queue)
            self.assertGreaterEqual(QUEUES[queue]["RedrivePolicy"]["maxReceiveCount"], 5, queue)

    def test_every_queue_that_is_read_has_a_dead_letter_queue_that_keeps_longer(self):
        for _, _, queue in mappings():
            dead = QUEUES[queue]["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
            kept = QUEUES[dead]["MessageRetentionPeriod"]
            self.assertGreater(kept, QUEUES[queue]["MessageRetentionPeriod"], dead)
        # Nothing consumes a dead letter queue.
        self.assertFalse(dead_letter_queues() & {queue for _, _, queue in mappings()})
        self.assertEqual(len(dead_letter_queues()), 3)

    def test_nothing_is_stored_in_the_clear(self):
        for name, queue in QUEUES.items():
            self.assertTrue(queue["SqsManagedSseEnabled"], name)
        self.assertTrue(RESOURCES["Table"]["Properties"]["SSESpecification"]["SSEEnabled"])
        self.assertIn("BucketEncryption", RESOURCES["Bucket"]["Properties"])
        self.assertEqual(set(RESOURCES["Bucket"]["Properties"]["PublicAccessBlockConfiguration"].values()), {True})


class Alarms(unittest.TestCase):
    def test_every_dead_letter_queue_alarms_at_its_first_message(self):
        for queue in dead_letter_queues():
            [alarm] = alarmed("ApproximateNumberOfMessagesVisible", "QueueName", queue)
            self.assertEqual((alarm["Threshold"], alarm["ComparisonOperator"]), (1, "GreaterThanOrEqualToThreshold"), queue)

    def test_every_function_alarms_on_errors_and_throttles_and_every_read_queue_on_age(self):
        for name in FUNCTIONS:
            self.assertEqual(len(alarmed("Errors", "FunctionName", name)), 1, name)
            self.assertEqual(len(alarmed("Throttles", "FunctionName", name)), 1, name)
        for name, _, queue in mappings():
            [alarm] = alarmed("ApproximateAgeOfOldestMessage", "QueueName", queue)
            # A message that is delayed for a quarter of an hour and then handled as long as may be is no reason to wake anybody.
            self.assertGreater(alarm["Threshold"], 900 + timeout(name), queue)
        for metric in ("ReadThrottleEvents", "WriteThrottleEvents"):
            self.assertEqual(len(alarmed(metric, "TableName", "Table")), 1)
        [alarm] = alarmed("Invocations", "FunctionName", "SweepFunction")
        self.assertEqual(alarm["TreatMissingData"], "breaching")

    def test_all_alarms_reach_the_topic_if_there_is_one(self):
        for name, alarm in ALARMS.items():
            self.assertEqual(
                alarm["AlarmActions"], {"Fn::If": ["Alarming", [{"Ref": "AlarmTopic"}], {"Ref": "AWS::NoValue"}]}, name
            )


class State(unittest.TestCase):
    def test_the_table_is_the_one_that_the_code_expects(self):
        source = (ROOT / "crates/dynamodb/src/table.rs").read_text()
        constants = dict(re.findall(r'const (\w+): &str = "([^"]+)";', source))
        keys = {name: parts for name, *parts in re.findall(r'const (\w+): IndexKey = IndexKey\("([^"]+)", "([^"]+)", "([^"]+)"\);', source)}
        includes = dict(re.findall(r"Index \{ name: (\w+)\.0, key: .*?, includes: &\[(.*?)\] \}", source, re.S))
        self.assertEqual(len(keys), 3, "table.rs is written otherwise than this test reads it")
        self.assertEqual(keys.keys(), includes.keys())

        def schema(partition, sort):
            return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]

        table = RESOURCES["Table"]["Properties"]
        self.assertEqual(table["KeySchema"], schema(constants["PK"], constants["SK"]))
        wanted = [
            {
                "IndexName": index,
                "KeySchema": schema(partition, sort),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": re.findall(r'"([^"]+)"', includes[name])},
            }
            for name, (index, partition, sort) in keys.items()
        ]
        self.assertEqual(table["GlobalSecondaryIndexes"], wanted)
        attributes = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
        used = {constants["PK"], constants["SK"], *(part for _, *parts in keys.values() for part in parts)}
        self.assertEqual(attributes, {name: "S" for name in used})
        self.assertEqual(table["TimeToLiveSpecification"], {"AttributeName": constants["TIME_TO_LIVE"], "Enabled": True})

    def test_state_survives_the_stack_and_can_be_restored(self):
        for name in ("Table", "Bucket"):
            self.assertEqual((RESOURCES[name]["DeletionPolicy"], RESOURCES[name]["UpdateReplacePolicy"]), ("Retain", "Retain"))
        table = RESOURCES["Table"]["Properties"]
        self.assertTrue(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"])
        self.assertEqual(table["BillingMode"], "PAY_PER_REQUEST")

    def test_no_object_expires_while_its_run_may_still_wait(self):
        rules = RESOURCES["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
        self.assertTrue(rules)
        for rule in rules:
            self.assertFalse(rule.keys() & {"ExpirationInDays", "ExpirationDate", "Transitions"}, rule)


class ManagedPolicies:
    """SAM asks AWS for them; this template uses none."""

    @staticmethod
    def load():
        return {}


class Functions(unittest.TestCase):
    def test_only_webhooks_are_open(self):
        # As SAM makes it, since LocalStack lets everybody in whatever it says.
        signed, opened = [{"AWS_IAM": []}], [{"NONE": []}]
        for path, security in self.security().items():
            self.assertEqual(security, opened if path.startswith("/hooks/") else signed, path)
        self.assertEqual(set(map(str, self.security(ApiAuthorization="NONE").values())), {str(opened), "None"})

    @staticmethod
    def security(**parameters):
        """What each method of the API asks of its caller, by path and method."""
        written = yaml_parse((ROOT / "template.yaml").read_text())
        for resource in written["Resources"].values():
            if "CodeUri" in resource.get("Properties", {}):
                resource["Properties"]["CodeUri"] = "s3://bucket/key"
        made = transform(written, parameters, ManagedPolicies())["Resources"]
        [api] = [each["Properties"]["Body"] for each in made.values() if each["Type"] == "AWS::ApiGateway::RestApi"]
        return {
            f"{path} {method}": operation.get("security")
            for path, methods in api["paths"].items() for method, operation in methods.items()
        }

    def test_the_functions_know_the_limits_of_this_template(self):
        def seconds(file, name):
            source = (ROOT / "functions/common/src" / file).read_text()
            unit, count = re.search(rf"const {name}: Duration = Duration::from_(secs|mins)\((\d+)\);", source).groups()
            return int(count) * {"secs": 1, "mins": 60}[unit]

        source = (ROOT / "functions/common/src/home.rs").read_text()
        # What an invocation keeps for storing and ringing (the runtime's RESERVE) is not a step's.
        longest = seconds("configuration.rs", "LONGEST_STEP")
        self.assertEqual(longest, timeout("StepFunction") - 10)
        self.assertIn("const RESERVE: Duration = Duration::from_secs(10);", (ROOT / "crates/runtime/src/handlers.rs").read_text())
        self.assertLessEqual(seconds("home.rs", "STEP_TIMEOUT"), longest)
        # A run is marked as stuck before its message is put aside.
        visits = int(re.search(r"const VISITS: u32 = (\d+);", source)[1])
        for _, _, queue in mappings():
            self.assertLess(visits, QUEUES[queue]["RedrivePolicy"]["maxReceiveCount"], queue)
        # Requests to queues and to the bucket fit into what is kept.
        self.assertLess(seconds("clients.rs", "RING"), 10)
        self.assertLess(seconds("../../../crates/dynamodb/src/s3.rs", "BUDGET"), 10)
        web = (ROOT / "functions/common/src/web.rs").read_text()
        wait = int(re.search(r"const LONGEST_WAIT_SECONDS: u64 = (\d+);", web)[1])
        for name in FUNCTIONS:
            if events(name, "Api"):
                self.assertLess(wait, timeout(name), name)

    def test_no_function_behind_the_api_outlasts_it(self):
        for name in FUNCTIONS:
            if events(name, "Api"):
                self.assertLessEqual(timeout(name), 29, name)

    def test_each_logs_as_json_into_a_group_that_ends(self):
        self.assertEqual(GLOBALS["LoggingConfig"]["LogFormat"], "JSON")
        groups = of_type("AWS::Logs::LogGroup")
        for name, properties in FUNCTIONS.items():
            group = groups[properties["LoggingConfig"]["LogGroup"]["Ref"]]
            self.assertEqual(group["RetentionInDays"], {"Ref": "LogRetentionDays"}, name)
            # LocalStack logs there whatever LoggingConfig says.
            self.assertEqual(group["LogGroupName"]["Fn::Sub"], f"/aws/lambda/{properties['FunctionName']['Fn::Sub']}")

    def test_own_events_start_nothing(self):
        [event] = events("StartFunction", "EventBridgeRule")
        self.assertEqual(event["Pattern"], {"source": [{"anything-but": ["stepwell"]}]})

    def test_nothing_is_used_that_localstack_does_not_have(self):
        kinds = {event["Type"] for each in FUNCTIONS.values() for event in each.get("Events", {}).values()}
        self.assertEqual(kinds, {"Api", "SQS", "Schedule", "EventBridgeRule"})


if __name__ == "__main__":
    unittest.main()
