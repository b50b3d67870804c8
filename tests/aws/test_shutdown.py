"""What the function `step` does when its environment is told to end: between two invocations it ends at once; in the middle of one
it answers first. Its own process, without a stack: the Runtime API and the queue stand in here.
"""

import http.server
import json
import signal
import subprocess
import threading
import unittest

import stack as stacks

PROGRAM = stacks.ROOT / "target" / "lambda" / "step" / "bootstrap"
AT_MOST = 30
"""Seconds for what takes a fraction of one."""


class Shutdown(unittest.TestCase):
    def setUp(self):
        self.events = threading.Semaphore(0)
        self.idle, self.asked, self.may_answer = threading.Event(), threading.Event(), threading.Event()
        self.answers = []
        test = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, value, **headers):
                data = json.dumps(value).encode()
                self.send_response(200)
                for name, text in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name.replace("_", "-"), text)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                test.idle.set()
                test.events.acquire()
                # A doorbell that cannot be read: all that the function does with it is to ask its queue once.
                message = {"messageId": "m1", "receiptHandle": "r1", "body": "none", "attributes": {}, "messageAttributes": {}}
                self.reply({"Records": [message]}, Lambda_Runtime_Aws_Request_Id="q1", Lambda_Runtime_Deadline_Ms="99999999999999",
                           Lambda_Runtime_Invoked_Function_Arn="arn:aws:lambda:us-east-1:0:function:step")

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path.startswith("/2018-06-01/"):
                    test.answers.append((self.path, body))
                    return self.reply({})
                test.asked.set()
                test.may_answer.wait()
                return self.reply({"Successful": [{"Id": "0"}], "Failed": []}, Content_Type="application/x-amz-json-1.0")

        self.server = stacks.Server(("127.0.0.1", 0), Handler)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{self.server.server_port}"
        environment = {
            "AWS_LAMBDA_RUNTIME_API": here, "AWS_LAMBDA_FUNCTION_NAME": "step", "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_LOG_GROUP_NAME": "g", "AWS_LAMBDA_LOG_STREAM_NAME": "s",
            "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": f"http://{here}",
            "STEPWELL_TABLE": "t", "STEPWELL_BUCKET": "b", "STEPWELL_STEPS_QUEUE_URL": f"http://{here}/steps",
            "STEPWELL_RESUME_QUEUE_URL": f"http://{here}/resume",
        }
        self.process = subprocess.Popen([PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(self.end)
        self.assertTrue(self.idle.wait(AT_MOST), "it asks for an invocation")

    def end(self):
        for event in (self.events, self.may_answer):
            event.release() if event is self.events else event.set()
        self.process.kill()
        self.process.communicate()

    def test_idle_it_ends_at_once(self):
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(AT_MOST), 0)
        self.assertEqual(self.answers, [])

    def test_at_work_it_answers_first(self):
        self.events.release()
        self.assertTrue(self.asked.wait(AT_MOST))
        self.process.send_signal(signal.SIGTERM)
        with self.assertRaises(subprocess.TimeoutExpired):
            self.process.wait(1)
        self.may_answer.set()
        self.assertEqual(self.process.wait(AT_MOST), 0)
        self.assertEqual(self.answers, [("/2018-06-01/runtime/invocation/q1/response", {"batchItemFailures": [{"itemIdentifier": "m1"}]})])


if __name__ == "__main__":
    unittest.main()
