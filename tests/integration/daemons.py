"""One daemon alone, for tests of what blixardd does around its node."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from cluster import BIN, until

HERE = pathlib.Path(__file__).parent
STOP_SECONDS_MAX = 10


def blixardd(*arguments, wrap=(), **more):
    """Run it to its end."""
    command = [*wrap, BIN / "blixardd", *arguments]
    more = {"capture_output": True, "text": True, "timeout": 30, "stdin": subprocess.DEVNULL, **more}
    return subprocess.run(list(map(str, command)), **more)


def keys():
    """The flags that are keys of the file, as the daemon prints them."""
    printed = blixardd("--print-config").stdout
    return re.findall(r"^(?:# )?([a-z_]+):", printed, re.M)


class Manager:
    """The other end of sd_notify."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(name).replace("@", "\0", 1) if str(name).startswith("@") else str(name))
        self.socket.settimeout(0.05)
        self.heard = []

    def listen(self):
        """What was said so far, line by line."""
        try:
            while True:
                self.heard += self.socket.recv(4096).decode().splitlines()
        except TimeoutError:
            return self.heard

    def until(self, line, seconds=20):
        until(lambda: line in self.listen(), seconds, f"{line} is said; it was {self.heard}")

    def close(self):
        self.socket.close()


class Daemon:
    def __init__(self, directory, *arguments, faults=None, library=None, **environment):
        self.dir = directory
        self.log = directory / "log"
        self.data = directory / "data"
        self.arguments = ["--data-dir", self.data, "--name", "solo", "--simulate-vms", *arguments]
        self.environment = {"PATH": os.environ["PATH"], **environment}
        if library:
            self.environment.update(LD_PRELOAD=str(library), BLX_FAULT_DIR=str(faults))
        self.process = None

    def start(self):
        command = [str(word) for word in (BIN / "blixardd", *self.arguments)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment, start_new_session=True)
        return self

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_said(self, text, seconds=20):
        until(lambda: text in self.said() or self.process.poll() is not None, seconds, f"it says {text}")
        assert text in self.said(), self.said()

    def cli(self, *arguments):
        command = [str(BIN / "blixard"), "--socket", str(self.data / "blixard.sock"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)

    def stop(self, sign=signal.SIGTERM):
        """Ask for the end; its exit status and how long that took."""
        began = time.monotonic()
        self.process.send_signal(sign)
        status = self.process.wait(STOP_SECONDS_MAX + 5)
        return status, time.monotonic() - began

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
