"""One child process: started, stopped, killed, its output in a file. Dies with us, whatever happens to us."""
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path


class Failed(Exception):
    """Something did not happen. The message says what, and where to look."""


def wait_until(what, condition, timeout=30.0, interval=0.05, process=None):
    """Returns the first true value of condition(); Failed when the time is over or the process has ended."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if process and process.exit_code() is not None:
            raise Failed(f"{process.name} ended with {process.exit_code()} before {what}\n{process.tail()}")
        if time.monotonic() > deadline:
            raise Failed(f"waited {timeout:.0f} s for {what}" + (f"\n{process.tail()}" if process else ""))
        time.sleep(interval)


def as_user(user):
    """The argv prefix that runs a program as `user` (None: as we are) and ends it when we die."""
    prefix = [shutil.which("setpriv") or "/usr/bin/setpriv", "--pdeathsig", "KILL"]
    if user:
        entry = pwd.getpwnam(user)
        prefix += [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return prefix + ["--"]


def run(argv, *, user=None, stdin=None, env=None, cwd=None, timeout=60, check=True):
    """A command that ends by itself; its output as text. Secrets go through stdin, files or env, never argv."""
    done = subprocess.run(as_user(user) + [str(a) for a in argv], input=stdin, text=True, capture_output=True,
                          env={**os.environ, **(env or {})}, cwd=cwd, timeout=timeout)
    if check and done.returncode != 0:
        raise Failed(f"{Path(argv[0]).name} {' '.join(str(a) for a in argv[1:3])}: exit {done.returncode}\n"
                     f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


class Process:
    """argv runs as `user` with its output appended to `log`."""

    def __init__(self, name, argv, log, *, user=None, cwd=None, env=None, stop_signal=signal.SIGTERM):
        self.name, self.argv, self.log = name, [str(a) for a in argv], Path(log)
        self.user, self.cwd, self.env, self.stop_signal = user, cwd, env or {}, stop_signal
        self._child = None

    def start(self):
        if self.running():
            raise Failed(f"{self.name} is already running")
        with open(self.log, "ab") as out:
            self._child = subprocess.Popen(as_user(self.user) + self.argv, stdin=subprocess.DEVNULL, stdout=out,
                                           stderr=out, cwd=self.cwd, env={**os.environ, **self.env},
                                           start_new_session=True)
        return self

    @property
    def pid(self):
        return self._child.pid if self._child else None

    def exit_code(self):
        return self._child.poll() if self._child else None

    def running(self):
        return self._child is not None and self._child.poll() is None

    def signal(self, number):
        if self.running():
            self._child.send_signal(number)

    def wait(self, timeout):
        return self._child.wait(timeout)

    def stop(self, timeout=45):
        """Asks; after `timeout` seconds ends it. Returns the exit code, or None if it was not running."""
        if not self.running():
            return None
        self.signal(self.stop_signal)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.name} did not stop within {timeout} s and was killed\n{self.tail()}") from None

    def kill(self):
        """SIGKILL to it and to what it started: a process that dies without a word."""
        if self._child is None:
            return
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait(10)

    def restart(self):
        self.stop()
        return self.start()

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines=40):
        return f"--- last lines of {self.log}\n" + "\n".join(self.text().splitlines()[-lines:])
