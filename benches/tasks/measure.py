"""Measures what benches/tasks.sh prints: `celery worker` and `beacon worker` in turns, each alone, on one Redis.

Each worker has two processes and the same application (bare.py). The clients share the machine.
"""

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

# Messages that are sent at once while a queue is filled.
PIECE = 500
# How many tasks go by before the clock starts: the first ones wait for processes that warm up.
WARM = 50
LATENCIES = 400
PARKED = 5000

ROWS = [
    ("native", "no-op without Python, result stored (celery.accumulate)", "tasks/s", "more"),
    ("kept", "no-op body in Python, result stored", "tasks/s", "more"),
    ("ignored", "no-op body in Python, result ignored", "tasks/s", "more"),
    ("start50", "from sending to the body's start, idle worker, p50", "ms", "less"),
    ("start99", "the same, p99", "ms", "less"),
    ("trip50", "from delay() to get(), p50", "ms", "less"),
    ("memory", "resident memory of the parent, idle", "MiB", "less"),
    ("processes", "proportional memory of all processes, idle", "MiB", "less"),
    ("eta", "growth of the parent by 5,000 tasks with an ETA", "MiB", "less"),
]


def status(pid, file, field):
    """A figure of /proc in MiB; 0 for a process that is gone."""
    try:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def descendants(pid):
    """A process and its children, all the way down."""
    found = [pid]
    for each in found:
        # Each thread has the children that it started.
        for task in Path(f"/proc/{each}/task").glob("*"):
            try:
                found += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
    return found


class Worker:
    """A worker that serves until the block ends."""

    def __init__(self, words, log, folder):
        self.words, self.log, self.folder = words, log, folder

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def memory(self):
        return status(self.process.pid, "status", "VmRSS")

    def all_memory(self):
        return sum(status(pid, "smaps_rollup", "Pss") for pid in descendants(self.process.pid))

    def check(self):
        if self.process.poll() is not None:
            sys.exit(f"{' '.join(map(str, self.words))} has ended:\n{Path(self.log).read_text()[-3000:]}")


class Bench:
    def __init__(self, asked, scratch, client, url):
        self.asked, self.scratch, self.client, self.url = asked, scratch, client, url

    def worker(self, name, application=True):
        python = [sys.executable, "-m", "celery"]
        flags = ["-c", "2", "-l", "WARNING", "-n", f"{name}@bench"]
        if name == "celery":
            words = [*python, "-A", "bare", "worker", *flags]
        else:
            file = Path(self.scratch) / "beacon.toml"
            file.write_text(f'server.state_dir = "{self.scratch}/state"\nmanaged.redis = "off"\nmanaged.postgres = "off"\n')
            app = ["-A", "bare"] if application else ["-b", self.url, "--result-backend", self.url, "-Q", "celery"]
            words = [self.asked.binary, "worker", "--config", file, *app, *flags]
        return Worker(words, Path(self.scratch) / f"{name}.log", self.scratch)

    def fill(self, task, number, **options):
        from producer import message

        for start in range(0, number, PIECE):
            pieces = [message(task, [], **options) for _ in range(start, min(start + PIECE, number))]
            self.client.lpush("celery", *pieces)

    def wait(self, worker, what, state, bound=180):
        begun = time.monotonic()
        while not state():
            worker.check()
            if time.monotonic() - begun > bound:
                sys.exit(f"waited in vain for {what}:\n{Path(worker.log).read_text()[-3000:]}")
            time.sleep(0.002)

    def throughput(self, name, task, number, application=True):
        """Tasks a second, from the first ones until nothing waits and nothing is held."""
        self.client.flushall()
        self.fill(task, number)
        with self.worker(name, application) as worker:
            self.wait(worker, "the first tasks", lambda: self.client.llen("celery") <= number - WARM)
            left, begun = self.client.llen("celery"), time.monotonic()
            self.wait(worker, "the end", lambda: not self.client.llen("celery") and not self.client.hlen("unacked"))
            return left / (time.monotonic() - begun)

    def idle(self, name):
        """Latencies and memory of a worker that has little to do."""
        import bare as tasks

        self.client.flushall()
        with self.worker(name) as worker:
            tasks.now.delay().get(timeout=60)
            for _ in range(20):
                tasks.now.delay().get(timeout=60)
            time.sleep(2)
            found = {"memory": worker.memory(), "processes": worker.all_memory()}
            starts, trips = [], []
            for _ in range(LATENCIES):
                sent, begun = time.time(), time.monotonic()
                started = tasks.now.delay().get(timeout=60)
                trips.append((time.monotonic() - begun) * 1000)
                starts.append((started - sent) * 1000)
            found |= {"start50": statistics.median(starts), "start99": statistics.quantiles(starts, n=100)[98], "trip50": statistics.median(trips)}
            before = worker.memory()
            self.fill("bare.nothing", PARKED, countdown=3600)
            self.wait(worker, "an empty queue", lambda: not self.client.llen("celery"))
            time.sleep(3)
            found["eta"] = max(0.0, worker.memory() - before)
            return found

    def measure(self, name):
        number = self.asked.tasks * (5 if name == "beacon" else 1)
        return {
            "native": self.throughput(name, "celery.accumulate", number, application=False),
            "kept": self.throughput(name, "bare.nothing", number),
            "ignored": self.throughput(name, "bare.nothing_kept", number),
            **self.idle(name),
        }


def table(rounds):
    """The medians, and the ratio of each round."""
    names = list(rounds[0])
    print(f"\n| | {' | '.join(names)} | ratio | rounds |\n| --- |{' ---: |' * (len(names) + 2)}")
    for key, title, unit, better in ROWS:
        values = [statistics.median(each[name][key] for each in rounds) for name in names]
        shown = [f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in values]
        ratio = span = ""
        if len(names) == 2:
            ratios = [each["beacon"][key] / each["celery"][key] if each["celery"][key] else float("nan") for each in rounds]
            ratio, span = f"{statistics.median(ratios):.3g}", f"{min(ratios):.3g} to {max(ratios):.3g}"
        print(f"| {title}, {unit} ({better} is better) | {' | '.join(shown)} | {ratio} | {span} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--only")
    parser.add_argument("--binary")
    asked = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"redis://127.0.0.1:{port}/0"
    os.environ.update(PROJ_BROKER=url, PROJ_RESULTS=url, PROJ_EFFECTS=f"redis://127.0.0.1:{port}/1")
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="beacon-tasks-") as scratch:
        words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", scratch]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis.from_url(url)
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.1)
            bench = Bench(asked, scratch, client, url)
            rounds = []
            for number in range(asked.rounds):
                rounds.append({})
                for name in [asked.only] if asked.only else ["celery", "beacon"]:
                    rounds[-1][name] = bench.measure(name)
                    print(f"round {number + 1}: {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in rounds[-1][name].items()), flush=True)
            table(rounds)
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
