"""Deploying the template: functions to a bucket, the template to CloudFormation, and a look at what really came of it."""

import hashlib
import io
import json
import pathlib
import platform
import re
import sys
import zipfile

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

import instance
from support import ROOT, Failure

# Properties that LocalStack takes and forgets. Told, so that nobody believes to have tried them.
FORGOTTEN = {
    "RecursiveLoop": "the loops of step and resume are not detected here, allowed or not",
    "RetentionInDays": "logs do not expire",
    "PointInTimeRecoverySpecification": "no point-in-time recovery",
    "LogGroup": "a function's log is in /aws/lambda/<function>",
    "Architectures": "functions run on this machine's processor",
    "Role": "roles are not enforced",
}


def work(usage):
    parser = instance.arguments(usage)
    parser.add_argument("--stack", default="stepwell")
    parser.add_argument("--zips", type=pathlib.Path, default=ROOT / "target" / "lambda")
    parser.add_argument("--template", type=pathlib.Path, default=ROOT / "template.yaml")
    parser.add_argument("--endpoint")
    parser.add_argument("parameters", nargs="*", metavar="NAME=VALUE")
    given = parser.parse_args()
    known = instance.the(given.state, given.endpoint)
    parameters = dict(split(each) for each in given.parameters)
    text = given.template.read_text()
    shape = yaml.load(text, Loader=Shape)

    bucket = f"deploy-{given.stack}".lower()
    client(known, "s3").create_bucket(Bucket=bucket)
    text = packaged(known, text, given.zips, bucket)
    parameters.setdefault("Architecture", "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64")
    outputs = deployed(known, given.stack, text, parameters, bucket)
    make_good(known, given.stack, shape)
    if "ApiId" in outputs:
        # The usual name would need the public DNS.
        outputs["ApiUrl"] = f"{known['endpoint']}/_aws/execute-api/{outputs['ApiId']}/{outputs['Stage']}"
    print(json.dumps(outputs, indent=2, sort_keys=True))


def split(parameter):
    name, equals, value = parameter.partition("=")
    if not equals:
        raise Failure(f"`{parameter}` is no NAME=VALUE")
    return name, value


def client(known, service):
    return boto3.client(
        service, endpoint_url=known["endpoint"], region_name=instance.REGION,
        aws_access_key_id=instance.CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=instance.CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}, read_timeout=300, retries={"total_max_attempts": 1}),
    )


class Shape(yaml.SafeLoader):
    """Reads a template for its shape: what a tag like !Ref stands for is left open."""


Shape.add_multi_constructor("!", lambda loader, tag, node: {tag: node.value})


def packaged(known, text, zips, bucket):
    """The template with each local CodeUri replaced by an object of the bucket."""
    s3 = client(known, "s3")

    def upload(match):
        function = pathlib.PurePosixPath(match[2]).name
        body = zipped(zips, function)
        key = f"{function}/{hashlib.sha256(body).hexdigest()}.zip"
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        return f"{match[1]}s3://{bucket}/{key}"

    return re.sub(r"^( +CodeUri: )([\w./-]+/)$", upload, text, flags=re.M)


def zipped(zips, function):
    for made in (zips / function / "bootstrap.zip", zips / f"{function}.zip"):
        if made.exists():
            return made.read_bytes()
    program = zips / function / "bootstrap"
    if not program.exists():
        raise Failure(
            f"the function `{function}` is not built: there is no {program}, nor {program}.zip. "
            "Build it (scripts/build-functions), or name another folder with --zips"
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        # A fixed time: the same program is the same zip.
        entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
        entry.external_attr = 0o755 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, program.read_bytes())
    return packed.getvalue()


def deployed(known, stack, text, parameters, bucket):
    """Creates or updates the stack and returns its outputs. The events are looked at as well as the status, because
    LocalStack calls an update complete that failed in part."""
    cloudformation = client(known, "cloudformation")
    client(known, "s3").put_object(Bucket=bucket, Key="template.yaml", Body=text.encode())
    request = {
        "StackName": stack,
        "TemplateURL": f"{known['endpoint']}/{bucket}/template.yaml",
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    }
    before = events(cloudformation, stack)
    if before:
        say("this stack is there and is updated. LocalStack changes functions and queues, but leaves tables, buckets, rules and "
            "alarms as they were and says nothing: for those, localstack/down, up and deploy")
        cloudformation.update_stack(**request)
        waiter = cloudformation.get_waiter("stack_update_complete")
    else:
        cloudformation.create_stack(**request)
        waiter = cloudformation.get_waiter("stack_create_complete")
    problem = None
    try:
        waiter.wait(StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    except WaiterError as error:
        problem = str(error)
    seen = {event["EventId"] for event in before}
    failed = [event for event in events(cloudformation, stack)
              if event["EventId"] not in seen and event["ResourceStatus"].endswith("_FAILED")]
    if failed or problem:
        # The first that has a reason is the cause, the others were given up with it.
        told = [f"  {event['LogicalResourceId']}: {event['ResourceStatus']}: {event['ResourceStatusReason']}"
                for event in failed if event.get("ResourceStatusReason")]
        raise Failure("\n".join([f"the stack {stack} was not deployed ({problem or 'some of it failed'})", *told,
                                 f"see also {known['log']}"]))
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def events(cloudformation, stack):
    try:
        pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack)
        return [event for page in pages for event in page["StackEvents"]]
    except ClientError as error:
        if "does not exist" in str(error):
            return []
        raise


def make_good(known, stack, shape):
    """Does what LocalStack leaves out and a test could notice, and says what remains."""
    functions = client(known, "lambda")
    for name, resource in shape["Resources"].items():
        reserved = resource.get("Properties", {}).get("ReservedConcurrentExecutions")
        if isinstance(reserved, int):
            physical = client(known, "cloudformation").describe_stack_resource(StackName=stack, LogicalResourceId=name)
            functions.put_function_concurrency(
                FunctionName=physical["StackResourceDetail"]["PhysicalResourceId"], ReservedConcurrentExecutions=reserved
            )
            say(f"{name}: LocalStack ignores ReservedConcurrentExecutions in a template; set to {reserved} by the API")
    used = json.dumps([shape.get("Globals"), shape["Resources"]], default=str)
    for name, meaning in FORGOTTEN.items():
        if f'"{name}"' in used:
            say(f"LocalStack ignores {name}: {meaning}")


def say(text):
    print(f"deploy: {text}", file=sys.stderr)
