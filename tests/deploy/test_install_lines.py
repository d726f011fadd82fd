"""The lines that the console and clmctl print for a new agent: what they name is what is shipped, and no token is an argument of a program.
./dev test containers runs those that need no API server."""
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts"))

from clm.machines import console_line  # noqa: E402

WAYS = ["Debian", "Container", "Kubernetes"]
TOKEN = "clm1.gateway.example:8443.a-pin.a-secret"


def kustomized(directory):
    text = subprocess.run(["kubectl", "kustomize", TOP / directory], check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


def test_the_console_has_these_ways():
    source = (TOP / "services/gateway/web/src/token.tsx").read_text()
    assert re.findall(r'\{ name: "([^"]+)", help', source) == WAYS


@pytest.mark.parametrize("way", WAYS)
def test_no_line_of_the_console_holds_the_token(way):
    """It is pasted where a command reads it: from the terminal, or out of a file."""
    line = console_line(way)
    assert "${" not in line and "<" not in line
    names = {"clm-token", "clm-token,mode=0400", "clm-agent-token", "--token-file", "/run/secrets/clm-token", "--from-file=token=/dev/stdin"}
    assert {word for word in line.split() if "token" in word} <= names
    # podman reads "-" from a pipe only, and not from a terminal.
    assert way == "Debian" or line.count("/dev/stdin") + line.count("cat | sudo podman secret create clm-token - ") == 1


def test_clmctl_gives_the_token_by_standard_input():
    source = (TOP / "cli/agents.c").read_text()
    [line] = re.findall(r'"(sudo apt-get .*?)",\s+token\)', source, re.DOTALL)
    line = re.sub(r'"\s+"', "", line)
    assert line.count("%s") == 1 and "/dev/stdin /etc/clm-agent/token <<< '%s' &&" in line


def test_the_containers_line_names_what_the_image_is():
    line = console_line("Container")
    stages = (TOP / "deploy/docker/Dockerfile").read_text().split("\nFROM ")
    [agent] = [stage for stage in stages if re.match(r"\S+ AS agent\n", stage)]
    assert "install -d -m 0700 /var/lib/clm-agent" in agent and "-v clm-agent:/var/lib/clm-agent " in line
    assert 'ENTRYPOINT ["/usr/bin/clm-agent"]' in agent and " run --token-file /run/secrets/clm-token" in line
    assert "--secret clm-token,mode=0400 " in line  # the agent refuses a token that others may read
    images = {c["image"] for o in kustomized("deploy/kubernetes/agent/daemonset") if o["kind"] == "DaemonSet"
              for c in o["spec"]["template"]["spec"]["containers"]}
    assert all(f" {image} " in line for image in images) and images


def test_the_kubernetes_line_makes_what_the_agent_mounts():
    apply, create = console_line("Kubernetes").split(" && ")
    directory = re.fullmatch(r"kubectl apply -k (\S+)", apply)[1]
    objects = kustomized(directory)
    [deployment] = [o for o in objects if o["kind"] == "Deployment"]
    assert any(o["kind"] == "Namespace" and o["metadata"]["name"] == deployment["metadata"]["namespace"] for o in objects)
    pod = deployment["spec"]["template"]["spec"]

    # The very command, but that it shows the object instead of sending it.
    made = subprocess.run([*create.split(), "--dry-run=client", "-o", "yaml"], input=TOKEN, check=True, capture_output=True, text=True)
    secret = yaml.safe_load(made.stdout)
    assert TOKEN not in create and secret["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    [volume] = [v for v in pod["volumes"] if v.get("secret", {}).get("secretName") == secret["metadata"]["name"]]
    assert volume["secret"]["optional"] is True and volume["secret"]["defaultMode"] == 0o400
    [container] = pod["containers"]
    [mount] = [m for m in container["volumeMounts"] if m["name"] == volume["name"]]
    [key] = secret["data"]
    assert container["args"][container["args"].index("--token-file") + 1] == f"{mount['mountPath']}/{key}"


def test_operations_says_the_same():
    text = (TOP / "docs/operations.md").read_text()
    _, create = console_line("Kubernetes").split(" && ")
    assert create in text and "cat | sudo podman secret create clm-token -" in text
    [daemonset] = [o for o in kustomized("deploy/kubernetes/agent/daemonset") if o["kind"] == "DaemonSet"]
    pod = daemonset["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [state] = [v for v in pod["volumes"] if v["name"] == "state"]
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "state"]
    token = container["args"][container["args"].index("--token-file") + 1]
    assert token.replace(mount["mountPath"], state["hostPath"]["path"]) in text
