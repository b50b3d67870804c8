"""The id of the first run that `stepwell runs ls --output json` lists."""

import json
import sys

print(json.load(sys.stdin)["items"][0]["runId"])
