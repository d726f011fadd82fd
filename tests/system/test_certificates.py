"""clm-bootstrap renew-certificates, in a pod: a platform of which nothing but ended certificates is left starts again."""
import datetime
import ssl

import pytest

from clm.platform import HOST, SERVICES, write
from clm.process import run, wait_until
from conftest import start_platform
from support.api_server import SECRETS, ApiServer
from support.pki import OID, Authority, csr, from_pem, to_pem

SECRET = "clm-pki"
SIGNING = (f"extendedKeyUsage=clientAuth,serverAuth,{OID}.1.3\nsubjectAltName=URI:spiffe://clm.test/service/%s")
TLS = f"extendedKeyUsage=serverAuth\nsubjectAltName=URI:spiffe://clm.test/service/gateway,DNS:localhost,IP:{HOST}"
COMMON = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
FRESH = {*(f"{name}.service.{part}" for name in SERVICES for part in ("key", "crt")), "gateway.tls.key", "gateway.tls.crt",
         "bus.server.key", "bus.server.crt"}


@pytest.fixture(scope="module")
def platform(make_platform):
    """In the place of the shared one."""
    return start_platform(make_platform("certificates"))


@pytest.fixture(scope="module")
def made(platform):
    """What init put into the Secret."""
    return {".".join(path.relative_to(platform.pki).parts): path.read_bytes()
            for path in platform.pki.rglob("*") if path.is_file() and path.name != "nats.conf"}


@pytest.fixture
def api_server(platform, made, scratch, request):
    directory = scratch / f"api-{request.node.name[:60]}"
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    server = ApiServer(directory, platform.user)
    server.put(SECRET, made)
    yield server
    server.close()


@pytest.fixture(scope="module")
def mount(platform, made):
    """The part of the Secret that the job's pod sees."""
    directory = platform.own_dir("mount")
    platform.own_dir("mount/ca")
    for key, value in made.items():
        if key.startswith("ca.") and key != "ca.root.key":
            write(directory / "ca" / key[3:], value.decode(), 0o600, platform.user)
    return directory


def renew(platform, api_server, mount, check=True):
    return run([platform.bin / "clm-bootstrap", "renew-certificates", "--dir", mount, "--secret", SECRET, "--service-account", api_server.dir],
               user=platform.user, env=api_server.env, check=check)


def changed(before, after):
    return {key for key in before | after if before.get(key) != after.get(key)}


def ended(platform, directory):
    """Certificates as init makes them, a year later: {key of the Secret: its new text}."""
    services = Authority.of_platform(platform, "services", directory)
    now = datetime.datetime.now(datetime.timezone.utc)
    start, end = ((now - datetime.timedelta(seconds=s)).strftime("%y%m%d%H%M%SZ") for s in (3600, 10))
    pairs = [(name, "service", SIGNING % name, "") for name in SERVICES] + [("gateway", "tls", TLS, platform.roots.read_text())]
    return {f"{name}.{kind}.crt": (to_pem(services.issue(csr(platform.pki / name / f"{kind}.key", f"/CN={name}"), COMMON + extensions, start, end))
                                   + services.certificate.read_text() + root).encode() for name, kind, extensions, root in pairs}


def see(platform, data):
    """The mounted Secret, as the kubelet keeps it."""
    for key, value in data.items():
        name, _, file = key.partition(".")
        path = platform.pki / name / file
        write(path, value.decode(), path.stat().st_mode & 0o777, platform.user)


def shown(platform):
    return from_pem(ssl.get_server_certificate((HOST, platform.ports["operator"])))[0]


def test_a_platform_whose_certificates_have_ended_starts_again(platform, api_server, mount, tmp_path):
    before = ended(platform, tmp_path)
    for name in SERVICES:
        platform[name].stop()
        for kept in (platform.root / "state" / name).glob("*.pem"):  # an emptyDir is gone with its pod
            kept.unlink()
    api_server.put(SECRET, before)
    see(platform, before)
    for name in SERVICES:
        platform.start_service(name)
    for name in SERVICES:
        wait_until(f"{name} to say that its certificate has ended", lambda n=name: "expired" in platform.ready(n)[1], 30)

    former = api_server.data(SECRET)
    said = renew(platform, api_server, mount)
    assert "fresh certificates for the services, the gateway's TLS, the bus" in said.stdout
    now = api_server.data(SECRET)
    assert changed(former, now) == FRESH
    assert not any(part in said.stdout + said.stderr for part in ("PRIVATE", "the-pods-token"))

    see(platform, {key: now[key] for key in FRESH})
    platform["tasks"].stop()  # one pod is a new one; the others find it by themselves
    platform["tasks"].start()
    platform.wait_ready()
    assert shown(platform) == from_pem(now["gateway.tls.crt"].decode())[0]
    client = platform.rest()
    assert client.get("/api/v1/dashboard")["total"] == 0
    client.close()


def test_a_conflict_is_read_again_and_nothing_of_the_other_is_lost(platform, api_server, mount):
    former = api_server.data(SECRET)
    api_server.answers = [None, lambda: api_server.put(SECRET, {"tasks.bus.pass": b"another one"})]
    renew(platform, api_server, mount)
    now = api_server.data(SECRET)
    assert changed(former, now) == FRESH | {"tasks.bus.pass"} and now["tasks.bus.pass"] == b"another one"
    assert [method for method, _ in api_server.seen] == ["GET", "PATCH", "GET", "PATCH"]
    assert {path for _, path in api_server.seen} == {f"{SECRETS}/{SECRET}"}


def test_a_certificate_of_another_ca_is_left_alone(platform, api_server, mount, tmp_path):
    other = Authority(tmp_path / "other", "a public CA").certificate.read_bytes()
    api_server.put(SECRET, {"gateway.tls.crt": other})
    former = api_server.data(SECRET)
    said = renew(platform, api_server, mount)
    assert "gateway/tls.crt" in said.stdout and "left alone" in said.stdout
    assert changed(former, api_server.data(SECRET)) == FRESH - {"gateway.tls.key", "gateway.tls.crt"}


REFUSED = {
    "the role lets it read nothing": ([403], '"get" and "patch"'),
    "the role lets it write nothing": ([None, 403], '"get" and "patch"'),
    "the API server is ill": ([503], "503"),
    "the API server is ill when it writes": ([None, 500], "500"),
    "somebody else is always faster": ([None, 409] * 20, "changed meanwhile"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_changes_when(what, platform, api_server, mount):
    answers, reason = REFUSED[what]
    former = api_server.data(SECRET)
    api_server.answers = list(answers)
    refused = renew(platform, api_server, mount, check=False)
    assert refused.returncode == 1 and reason in refused.stderr, refused.stderr
    assert api_server.data(SECRET) == former and len(api_server.seen) <= 10


def test_a_secret_that_cannot_be_changed_says_what_to_do(platform, api_server, mount):
    api_server.secrets[SECRET]["immutable"] = True
    refused = renew(platform, api_server, mount, check=False)
    assert refused.returncode == 1 and "immutable" in refused.stderr, refused.stderr
    del api_server.secrets[SECRET]
    refused = renew(platform, api_server, mount, check=False)
    assert refused.returncode == 1 and "init" in refused.stderr, refused.stderr
    assert SECRET not in api_server.secrets


def test_a_secret_of_another_installation_is_not_touched(platform, api_server, mount, tmp_path):
    api_server.put(SECRET, {"roots.pem": Authority(tmp_path / "other").certificate.read_bytes()})
    refused = renew(platform, api_server, mount, check=False)
    assert refused.returncode == 1 and "different installations" in refused.stderr, refused.stderr
    assert [method for method, _ in api_server.seen] == ["GET"]


def test_the_directory_of_a_host_is_renewed_under_running_services(platform):
    """Without Kubernetes, by the administrator: what runs goes on with what it has, and what starts afterwards takes the younger."""
    certificate = platform.pki / "registry" / "service.crt"
    before = certificate.read_text()
    run([platform.bin / "clm-bootstrap", "renew-certificates", "--dir", platform.pki])
    assert certificate.read_text() != before
    platform["registry"].stop()
    platform["registry"].start()
    platform.wait_ready()
    for name in SERVICES:
        key = (platform.pki / name / "service.key").stat()
        assert (key.st_mode & 0o777, key.st_uid) == (0o600, (platform.pki / name / "bus.pass").stat().st_uid)
