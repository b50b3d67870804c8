"""k8s-pod-checker: are the pods up? Here a pod is the demo's service process, and the node is this machine."""

import machine

request = machine.request()
namespace = request["task"].rsplit(" ", 1)[-1]
running = machine.instance()
pods = []
if running:
    pid, port = running
    up = machine.is_running(pid)
    pods.append({
        "name": "checkout-%d" % pid,
        "running": up,
        "ready": up and machine.listens(port),
        "memory_mb": machine.memory_mb(pid),
        "port": port,
    })
machine.answer({
    "namespace": namespace,
    "pods": pods,
    "ready": sum(pod["ready"] for pod in pods),
    "node": machine.facts(),
})
