"""The console in the distribution's Chromium, against the platform and hosts that the system tests use."""
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

_spec = importlib.util.spec_from_file_location("system_conftest", TOP / "tests" / "system" / "conftest.py")
_system = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_system)
globals().update({name: getattr(_system, name) for name in (
    "programs", "scratch", "make_platform", "rest", "pytest_runtest_makereport")})
Host = _system.Host

from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from support_browser import Console  # noqa: E402

FLAGS = ("--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--disable-default-apps",
         "--hide-scrollbars", "--force-device-scale-factor=1", "--lang=en-GB")


@pytest.fixture(scope="session")
def platform(make_platform):
    platform = make_platform("platform")

    def progress(name, function):
        function()
        if name == "configuration":  # a record is to have its head while somebody looks at the page
            platform.write_config("registry", {"audit": {"head_interval": "1s"}})
    platform.start(progress)
    return platform


@pytest.fixture(scope="session")
def pictures():
    """Where the screenshots go: build/browser, made anew."""
    directory = Path(os.environ.get("CLM_PICTURES", TOP / "build" / "browser"))
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


@pytest.fixture(scope="session")
def driver():
    profile = tempfile.mkdtemp(prefix="clm-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(flag)
    options.accept_insecure_certs = True  # the test platform's own root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(service=Service(shutil.which("chromedriver") or "/usr/bin/chromedriver"), options=options)
    chrome.set_page_load_timeout(60)
    chrome.set_script_timeout(60)
    yield chrome
    chrome.quit()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture(scope="session")
def console(driver, platform, pictures):
    return Console(driver, platform, pictures)


@pytest.fixture(autouse=True)
def clean_log(console):
    """What the browser complains of fails the test in which it happened."""
    console.complaints()
    yield
    complaints = console.complaints()
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def host(platform, scratch):
    """nginx with a certificate about to end, and an agent that has not enrolled."""
    host = Host(platform, scratch / "web1", "web1").prepare()
    host.agent.change("[policy]", "[policy]\nmetrics = on")
    yield host
    host.stop()
