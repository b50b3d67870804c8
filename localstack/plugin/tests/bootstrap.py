#!/usr/bin/env python3
"""A function that does what its event says. Also deployed by hand to try the plugin in LocalStack."""

import http.client
import json
import os
import subprocess
import sys
import time

BASE = "/2018-06-01/runtime"


def main():
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])

    def ask(method, path, body=None):
        api.request(method, f"{BASE}/{path}", body)
        answer = api.getresponse()
        return answer, answer.read()

    if os.environ.get("INIT") == "error":
        ask("POST", "init/error", json.dumps({"errorType": "Told", "errorMessage": "no table"}))
        sys.exit(1)
    if os.environ.get("INIT") == "sleep":
        time.sleep(60)
    if os.environ.get("INIT") == "exit":
        sys.exit("cannot start")
    count = 0
    while True:
        head, event = ask("GET", "invocation/next")
        event, count = json.loads(event), count + 1
        request = head.headers["Lambda-Runtime-Aws-Request-Id"]
        answer = {"count": count, "pid": os.getpid(), "deadline": int(head.headers["Lambda-Runtime-Deadline-Ms"])}
        if event.get("say"):
            print(event["say"], file=sys.stderr, flush=True)
        if event.get("child"):
            answer["child"] = subprocess.Popen(["sleep", "60"]).pid
        if event.get("env"):
            answer["env"] = dict(os.environ)
        for record in event.get("Records", []):
            time.sleep(float(json.loads(record["body"]).get("sleep", 0)))
        time.sleep(event.get("sleep", 0))
        if "exit" in event:
            os._exit(event["exit"])
        if "httpMethod" in event:
            answer = {"statusCode": 200, "body": json.dumps({"path": event["path"], **answer})}
        if event.get("size"):
            answer = "x" * (event["size"] - 2)
        kind = "error" if event.get("fail") else "response"
        body = json.dumps(answer).encode()
        # In pieces, as runtimes that stream do.
        ask("POST", f"invocation/{request}/{kind}", iter([body[:10], body[10:]]) if event.get("chunked") else body)


main()
