"""What makes LocalStack's community edition run Stepwell's functions on the host, without Docker.

- `executor` gives LocalStack Lambda environments that are processes of this machine. Beneath it, and without knowing
  LocalStack: `environment` is one execution environment (start, invoke, stop, with Lambda's time-outs and errors),
  `runtime_api` the HTTP interface its process talks to, `watchdog` what ends the processes if LocalStack is killed.
- `dynamodb` forwards to DynamoDB Local, which `localstack/dynamodb-local` starts.
- `sqs_poller` polls each queue as wide as its mapping's MaximumConcurrency says.
- `counts` tells tests what was asked of SQS and Lambda.
- `patches` installs these two, and repairs a race of LocalStack's.

LocalStack finds all this by the entry points in the dist-info folder next to this package: a PYTHONPATH is enough.

Not emulated: freezing between invocations, memory and CPU limits, extensions, a read-only file system, IAM.
"""
