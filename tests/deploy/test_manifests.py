"""Kubernetes manifests render offline and hold against the published schemas and our own rules (manifests.mjs)."""
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
TOP = HERE.parents[1]


def test_every_manifest_holds():
    if not (HERE / "node_modules/kubernetes-models").exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True, timeout=900)
    done = subprocess.run(["node", HERE / "manifests.mjs"], text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted((TOP / "deploy/kubernetes").rglob("*.yaml")), ids=lambda p: p.name)
def test_no_secret_is_written_down(path):
    for document in yaml.safe_load_all(path.read_text()):
        assert document.get("kind") != "Secret"


def test_compose_and_kubernetes_share_their_configuration():
    compose = yaml.safe_load((TOP / "deploy/compose.yaml").read_text())
    mounts = [m.split(":")[0] for s in compose["services"].values() for m in s.get("volumes", ()) if m.startswith("./")]
    assert mounts and all((TOP / "deploy" / m).exists() for m in mounts)
    assert {s["image"].rsplit(":", 1)[1] for s in compose["services"].values() if "/clm-" in s["image"]} == {"0.1.0"}
