"""clm-bootstrap init into a Kubernetes Secret, against an API server of the test's own."""
import os

import pytest

from clm.platform import SERVICES
from clm.process import run
from support.api_server import ApiServer


@pytest.fixture(scope="module")
def fresh(make_platform):
    """PostgreSQL and configuration, but no CA yet."""
    platform = make_platform("publish")
    for name, function in platform.steps():
        if name in ("PostgreSQL", "configuration"):
            function()
    platform.own_dir("clm", 0o755)
    yield platform


@pytest.fixture
def api_server(fresh, scratch, request):
    directory = scratch / f"api-{request.node.name}"
    directory.mkdir()
    directory.chmod(0o755)
    server = ApiServer(directory, fresh.user)
    yield server
    server.close()


def init(fresh, api_server, *more, directory=None, check=True):
    return run([fresh.bin / "clm-bootstrap", "init", "--config", fresh.conf_dir / "bootstrap.conf", "--dir", directory or fresh.pki,
                "--trust-domain", "clm.test", "--gateway-name", "clm-gateway.clm.svc", "--bus-name", "clm-nats", "--bus-name", "clm-nats-0.clm-nats-peers",
                "--secret", "clm-pki", "--service-account", api_server.dir, *more], user=fresh.user, env=api_server.env, check=check)


def recorded(fresh):
    exists = fresh.sql("SELECT to_regclass('bootstrap.ca') IS NOT NULL")[0][0] == "t"
    return exists and fresh.sql("SELECT count(*) FROM bootstrap.ca")[0][0] != "0"


def test_nothing_counts_when_the_secret_cannot_be_made(fresh, api_server):
    api_server.answers = [500]
    refused = init(fresh, api_server, check=False)
    assert refused.returncode == 1 and "500" in refused.stderr, refused.stderr
    api_server.answers = [403]
    refused = init(fresh, api_server, check=False)
    assert refused.returncode == 1 and "create" in refused.stderr, refused.stderr
    assert not recorded(fresh) and not fresh.pki.exists()


def test_init_makes_one_secret_that_each_pod_takes_its_part_of(fresh, api_server, scratch):
    init(fresh, api_server)
    data = api_server.data("clm-pki")
    assert api_server.secrets["clm-pki"]["kind"] == "Secret"
    assert api_server.secrets["clm-pki"]["immutable"] is False  # renew-certificates replaces parts of it
    for name in SERVICES:
        assert b"PRIVATE KEY" in data[f"{name}.service.key"] and data[f"{name}.bus.pass"]
    files = [path for path in fresh.pki.rglob("*") if path.is_file()]
    assert {".".join(path.relative_to(fresh.pki).parts): path.read_bytes() for path in files} == data
    assert recorded(fresh)

    # A pod that lost its memory after the Secret was there finds it mounted, and changes nothing.
    existing = fresh.own_dir("existing")
    fresh.own_dir("existing/ca")
    for key, value in data.items():
        if key.startswith("ca."):
            path = existing / "ca" / key[3:]
            path.write_bytes(value)
            path.chmod(0o600)
            os.chown(path, *[os.stat(existing).st_uid] * 2)
    again = init(fresh, api_server, "--existing", existing, directory=scratch / "nowhere")
    assert "already initialised" in again.stdout
    assert api_server.data("clm-pki") == data


def test_an_existing_secret_is_never_overwritten(fresh, api_server):
    args = [fresh.bin / "clm-bootstrap", "publish-secret", "--name", "clm-database", "--password", "admin", "--password", "tasks",
            "--service-account", api_server.dir]
    made = run(args, env=api_server.env)
    first = api_server.data("clm-database")
    assert api_server.secrets["clm-database"]["immutable"] is True
    assert set(first) == {"admin", "tasks"} and len(set(first.values())) == 2 and all(len(v) == 43 for v in first.values())
    again = run(args, env=api_server.env)
    assert "made" in made.stdout and "nothing was changed" in again.stdout
    assert api_server.data("clm-database") == first
    assert not any(value.decode() in made.stdout + made.stderr for value in first.values())
