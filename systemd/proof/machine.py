"""What the rig is made of: a small Debian that boots in a container, the simulated decoder and cloud beside it, and what judges them.

Everything here runs in namespaces of the rig's own (`nspawn`, beside this file): the container shares the network of the simulators,
which is a loopback interface and nothing else, and all processes end with the rig.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

DEVICE = "65A10000000000000000000000000000000000000000000000000000000A115B"
KEY = "ror-0123456789abcdef0123"
TOKEN = "proof-of-the-package-0123456789"
CONFIGURATION = f"""\
name = "proof"

[[decoder]]
name = "mat"
protocol = "raceresult"
address = "tcp://127.0.0.1:3601"
timezone = "UTC"

[cloud]
url = "http://127.0.0.1:8480/v0"
device_id = "{DEVICE}"

[upload]
# How long the simulated cloud may take to show what it took.
settle = "2s"
"""
# Beside init and systemd only what the package depends on.
PACKAGES = "init,systemd,ca-certificates"


class Broken(Exception):
    """Something that had to happen did not."""


def wait_for(what, condition, limit, pause=0.05):
    """The first true answer of `condition`, and the seconds until then."""
    began = time.monotonic()
    while True:
        answer = condition()
        waited = time.monotonic() - began
        if answer:
            return answer, waited
        if waited > limit:
            raise Broken(f"not within {limit} s: {what}")
        time.sleep(pause)


def make_root(suite, place, cache, log):
    """Debian's smallest system that boots, in `place`. It needs the network. False if it cannot be had."""
    kept = cache and pathlib.Path(cache) / f"{suite}.tar"
    if not (kept and kept.exists()):
        made = [kept.with_suffix(".part.tar")] if kept else [place]
        options = ["--quiet", "--variant=minbase", f"--include={PACKAGES}", "--dpkgopt=force-unsafe-io"]
        options += ['--aptopt=Acquire::Languages "none"', '--aptopt=Acquire::Retries "2"']
        options += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
        if subprocess.run(["mmdebstrap", *options, suite, *made], stdout=log, stderr=log).returncode != 0:
            return False
        if kept:
            made[0].rename(kept)
    if kept:
        place.mkdir()
        subprocess.run(["tar", "-xpf", kept, "-C", place], check=True)
    # The documents of the package under test are wanted, and a sync has to be one.
    for options in (place / "etc/dpkg/dpkg.cfg.d").glob("*mmdebstrap*"):
        options.unlink()
    units = place / "etc/systemd/system"
    (units / "systemd-networkd-wait-online.service").symlink_to("/dev/null")
    (place / "etc/resolv.conf").write_text("")
    (place / "etc/hostname").write_text("finish\n")
    return True


class Container:
    """A Debian that is booted by systemd-nspawn. Commands are run in it by nsenter, so they need no login and no bus."""

    def __init__(self, root, log):
        self.root, self.log = root, log
        self.supervisor = None
        self.leader = 0

    def start(self):
        """Switches it on. Returns the moment, without waiting for more than a process to run things in."""
        began = time.monotonic()
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--link-journal=no", "--console=pipe"]
        command += ["--hostname=finish", "--directory", str(self.root), "--boot"]
        # Two names of one wish, for systemd before and after 254.
        environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "UNIFIED_CGROUP_HIERARCHY": "1"}
        self.supervisor = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.leader, _ = wait_for("a container", lambda: self._ended() or self._init(), 20, 0.01)
        if self._ended():
            raise Broken("systemd-nspawn ended at once (see the log of the rig)")
        return began

    def _ended(self):
        return self.supervisor.poll() is not None

    def _init(self):
        """The number of the process that is the container's first one. systemd-nspawn has other children, too."""
        for child in pathlib.Path(f"/proc/{self.supervisor.pid}/task/{self.supervisor.pid}/children").read_text().split():
            try:
                status = pathlib.Path(f"/proc/{child}/status").read_text()
                if re.search(r"(?m)^NSpid:.*\s1$", status) and pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
            except OSError:
                pass  # it is gone
        return 0

    def started(self):
        """Waits until the boot is over."""
        states = ("running", "degraded")
        wait_for("the end of the boot", lambda: self.out("systemctl", "is-system-running") in states, 60)

    def _entering(self, command):
        enter = ["nsenter", "--target", str(self.leader), "--all", "env", "-i", "-C", "/"]
        return [*enter, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive", *command]

    def run(self, *command, limit=120):
        """Runs a command in it, with both outputs in one text."""
        return subprocess.run(
            self._entering(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit
        )

    def popen(self, *command):
        """Starts a command in it, in a process group of its own."""
        return subprocess.Popen(self._entering(command), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)

    def out(self, *command):
        return self.run(*command).stdout.strip()

    def must(self, *command, limit=120):
        ended = self.run(*command, limit=limit)
        if ended.returncode != 0:
            raise Broken(f"{' '.join(command)} ended with {ended.returncode}: {ended.stdout.strip()[-600:]}")
        return ended.stdout

    def power_off(self):
        """Shuts it down, as a person does. Returns the seconds."""
        began = time.monotonic()
        self.run("systemctl", "poweroff")
        self._gone(60)
        return time.monotonic() - began

    def kill(self):
        """Kills its init, and with it everything in it, at once."""
        os.kill(self.leader, signal.SIGKILL)
        self._gone(20)

    def _gone(self, limit):
        try:
            self.supervisor.wait(limit)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"the container did not end within {limit} s") from error

    def path(self, inside):
        return self.root / str(inside).lstrip("/")


class Simulated:
    """A simulator of the program under test, beside the container."""

    def __init__(self, program, place, *arguments):
        self.output = place
        with open(place, "wb") as output:
            self.process = subprocess.Popen([program, "simulate", *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def last(self, pattern):
        found = re.findall(pattern, self.output.read_text(errors="replace"))
        return int(found[-1]) if found else 0

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Race:
    """A decoder that makes a known number of reads and stores them, and a cloud that takes what it is sent, also twice."""

    def __init__(self, program, place, rate, seconds, cloud=(), seed=1):
        place.mkdir(exist_ok=True)
        self.rate, self.count = rate, int(rate * seconds)
        self.ends = time.monotonic() + seconds
        decoder = ["decoder", "--protocol", "raceresult", "--rate", str(rate), "--count", str(self.count), "--seed", str(seed)]
        self.cloud = Simulated(program, place / "cloud", "cloud", "--no-dedup", "--seed", str(seed), *cloud)
        self.decoder = Simulated(program, place / "decoder", *decoder)

        # The simulator ends when all its reads are made and nobody is connected, and with it its memory. A box that is being killed
        # at that moment still wants them.
        self.holder, _ = wait_for("the decoder", lambda: connected(3601), 10)

    def happened(self):
        return self.decoder.last(r"(?m)^(\d+) reads")

    def in_cloud(self):
        return self.cloud.last(r"(\d+) in all")

    def stop(self):
        self.holder.close()
        self.decoder.stop()
        self.cloud.stop()


def connected(port):
    """A connection that asks for nothing, or None."""
    try:
        return socket.create_connection(("127.0.0.1", port), 2)
    except OSError:
        return None


class Box(Container):
    """The container with the package under test."""

    def status(self):
        """What the page says, or None if nobody answers."""
        try:
            ask = urllib.request.Request("http://127.0.0.1:8470/api/status", headers={"Authorization": f"Bearer {TOKEN}"})
            with urllib.request.urlopen(ask, timeout=2) as answer:
                return json.load(answer)
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def distinct(self):
        """How many different reads are kept, or -1."""
        status = self.status()
        reads = status and status["journal"].get("reads")
        return reads["kept"] - reads["duplicates"] if reads else -1

    def problems(self):
        status = self.status() or {}
        return [problem.get("code") for problem in status.get("problems", [])]

    def show(self, *properties, unit="passbridge"):
        lines = self.out("systemctl", "show", unit, *(f"--property={name}" for name in properties)).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def active(self):
        return self.show("ActiveState").get("ActiveState") == "active"

    def pid(self):
        return int(self.show("MainPID").get("MainPID") or 0)

    def restarts(self):
        return int(self.show("NRestarts").get("NRestarts") or 0)

    def journal(self, *options):
        return self.out("journalctl", "--no-pager", "--output=short-iso", "--unit=passbridge", *options)

    def configure(self, token=TOKEN):
        place = self.path("/etc/passbridge")
        place.mkdir(exist_ok=True)
        (place / "passbridge.toml").write_text(CONFIGURATION)
        for name, text in (("api_key", KEY), ("token", token)):
            if text:
                (place / name).touch(mode=0o600)
                (place / name).write_text(text + "\n")

    def installed(self):
        return self.run("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", "passbridge").stdout

    def clean(self):
        """As if the package had never been there."""
        self.run("dpkg", "--configure", "-a")
        if self.path("/var/lib/dpkg/info/passbridge.list").exists():
            self.must("dpkg", "--purge", "passbridge")
        self.run("sh", "-c", "umount -q /var/lib/passbridge; rm -rf /var/lib/passbridge /etc/passbridge /etc/systemd/system/passbridge*")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "reset-failed")

    def new_journal(self):
        """Stops the service, and takes the reads away."""
        self.must("systemctl", "stop", "passbridge")
        self.run("sh", "-c", "rm -rf /var/lib/passbridge/* /var/lib/passbridge/.[!.]*")

    def all_arrived(self, race, limit=120):
        """Waits until every read of the race is made, kept and sent. Returns what is wrong, or an empty text, and a summary."""
        wait_for("the end of the race", lambda: race.happened() >= race.count, max(0, race.ends - time.monotonic()) + 30, 0.2)

        def settled():
            status = self.status()
            if not status or not status["uploads"] or not status["journal"].get("reads"):
                return False
            reads = status["journal"]["reads"]
            return reads["kept"] - reads["duplicates"] >= race.count and all(upload["nothing_waits"] for upload in status["uploads"])

        try:
            wait_for("every read kept and sent", settled, limit, 0.2)
        except Broken as error:
            status = self.status() or {}
            return f"{error}; {race.count} happened, {self.distinct()} kept, {race.in_cloud()} in the cloud; {status.get('sentence')}", ""
        time.sleep(1.1)  # the simulated cloud tells its count once a second
        kept, cloud = self.distinct(), race.in_cloud()
        ended = self.run("passbridge", "audit", "--json")
        try:
            audit = json.loads(ended.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            return f"the audit ended with {ended.returncode}: {ended.stdout[-400:]}", ""
        wrong = {name: audit[name] for name in ("missing", "different", "duplicated", "foreign", "not_yet_sent", "set_aside") if audit[name]}
        summary = f"{race.count} happened, {kept} kept, {cloud} in the cloud, audit {'EQUAL' if audit['equal'] else 'DIFFERENT'} {audit['checked']}"
        equal = ended.returncode == 0 and audit["equal"] and not wrong
        right = equal and kept == cloud == audit["checked"] == audit["in_cloud"] == race.count
        return ("" if right else f"{summary} {wrong or ''}"), summary
