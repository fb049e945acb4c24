"""Promises about two machines: network namespaces that a cable joins, each with its own folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from forks import SETTINGS, generator
from helpers import TEXT, write
from stops import Figures, named

import charlstm
from charlstm.runs import pointers
from charlstm.runs import run as runs
from charlstm.runs.metrics import read_lines

HOSTS = ("charlstm-0", "charlstm-1")
ADDRESSES = ("10.77.1.1", "10.77.1.2")
STEPS = 1500
LONGEST_WAIT = 5
"""Seconds after which a process gives up waiting for one that is out of reach."""
FORGOTTEN = 20.0
"""Seconds after which torchrun no longer counts a machine that was lost."""
PATIENCE = 180.0
"""Seconds after which something has gone wrong."""
COMMAND = f"""
import sys
from datetime import timedelta
from charlstm.training import distributed
distributed.LONGEST_WAIT = timedelta(seconds={LONGEST_WAIT})
from charlstm.cli import run
sys.exit(run(sys.argv[1:]))
"""

Agent = subprocess.Popen[str]


@contextmanager
def cable() -> Iterator[bool]:
    """Two namespaces joined by a cable; False where that is not permitted."""
    try:
        done = all(
            _ip(*command.split())
            for command in (
                f"netns add {HOSTS[0]}",
                f"netns add {HOSTS[1]}",
                f"link add end0 netns {HOSTS[0]} type veth peer name end1 netns {HOSTS[1]}",
                *(f"-n {host} link set lo up" for host in HOSTS),
                *(f"-n {HOSTS[n]} addr add {ADDRESSES[n]}/24 dev end{n}" for n in (0, 1)),
                *(f"-n {HOSTS[n]} link set end{n} up" for n in (0, 1)),
            )
        )
        yield done
    finally:
        for host in HOSTS:
            _lose(host)
            _ip("netns", "del", host)


def _ip(*arguments: str) -> bool:
    try:
        return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _lose(host: str) -> None:
    """Kill all processes of a machine."""
    listed = ["ip", "netns", "pids", host]
    found = subprocess.run(listed, capture_output=True, text=True, check=False).stdout
    for number in found.split():
        try:
            os.kill(int(number), signal.SIGKILL)
        except ProcessLookupError:
            continue


class Cluster:
    """Two machines that have the same text, and nothing else in common."""

    def __init__(self, folder: Path) -> None:
        self.folders = [folder / host for host in HOSTS]
        for one in self.folders:
            one.mkdir()
            write(one / "tales.txt", TEXT * 4)
            write(one / "command.py", COMMAND)
        self._rounds = 0

    def path(self, name: str) -> Path:
        """The run, which is on the machine of process 0."""
        return self.folders[0] / "checkpoints" / name

    def start(self, number: int, name: str, restarts: int = 3) -> Agent:
        """Start torchrun on one machine."""
        folder = self.folders[number]
        torchrun = (
            f"-m torch.distributed.run --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d "
            f"--rdzv-endpoint {ADDRESSES[0]}:29400 --rdzv-id {name}-{self._rounds} "
            f"--rdzv-conf is_host={number == 0} --local-addr {ADDRESSES[number]} "
            f"--max-restarts {restarts}"
        )
        train = f"command.py train tales.txt --name {name} --val-fraction 0"
        settings = [*SETTINGS, "--steps", str(STEPS)]
        inside = ("ip", "netns", "exec", HOSTS[number])
        environment = {
            "PYTHONPATH": str(Path(charlstm.__file__).parents[1]),
            "CHARLSTM_CACHE": str(folder / "cache"),
            "GLOO_SOCKET_IFNAME": f"end{number}",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # or no machine can join again
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [*inside, sys.executable, *torchrun.split(), *train.split(), *settings],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_all(self, name: str, restarts: int = 3) -> list[Agent]:
        """Start torchrun on both machines, as a new job."""
        self._rounds += 1
        return [self.start(number, name, restarts) for number in (0, 1)]

    def wait_for_steps(self, name: str, begun: int, agents: list[Agent]) -> None:
        """Wait until the run has begun so often, and has taken steps since."""

        def done() -> bool:
            events = [line["event"] for line in read_lines(self.path(name) / runs.METRICS_FILE)]
            starts = [index for index, event in enumerate(events) if event == "run_started"]
            return len(starts) >= begun and "step_done" in events[starts[begun - 1] :]

        _wait(done, agents)

    def bits(self, name: str) -> bytes:
        """The last checkpoint's training state."""
        last = pointers.read_pointers(self.path(name)).last
        assert last == f"step-{STEPS:08}", last
        return (self.path(name) / last / "train.safetensors").read_bytes()


def _wait(condition: Callable[[], bool], agents: list[Agent]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        ended = [agent for agent in agents if agent.poll() is not None]
        assert not ended, [agent.communicate()[1] for agent in ended]
        assert time.monotonic() < end, "nothing has happened"
        time.sleep(0.05)


def _finished(agents: list[Agent]) -> list[str]:
    """What the machines printed; all must have ended well."""
    printed = [agent.communicate(timeout=PATIENCE)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0] * len(agents), "\n".join(printed)
    return printed


def hosts(folder: Path, trials: int, seed: int) -> Figures:
    """A process dies, a machine is lost and joins again, the cable is cut: always the same bits."""
    figures: dict[str, int | float] = {"machines": 0, "runs": 0}
    with cable() as possible:
        if not possible:
            return figures
        figures["machines"] = len(HOSTS)
        cluster = Cluster(folder)
        _finished(cluster.start_all("undisturbed"))
        bits = cluster.bits("undisturbed")
        for trial in range(trials):
            for event in (a_process_dies, a_machine_is_lost, the_cable_is_cut):
                name = f"{event.__name__.replace('_', '-')}-{seed}-{trial}"
                with named(event.__name__, seed, trial):
                    event(cluster, name, generator(seed, trial).randrange(2))
                    assert cluster.bits(name) == bits
                    assert not cluster.path(f"{name}-2").exists()
                    figures["runs"] += 1
        alien = cluster.folders[1] / "tales.txt"
        write(alien, TEXT * 5)
        agents = cluster.start_all("other", restarts=0)
        printed = [agent.communicate(timeout=PATIENCE)[1] for agent in agents]
        assert "different texts" in printed[0] + printed[1], printed
    return figures


def a_process_dies(cluster: Cluster, name: str, victim: int) -> None:
    """torchrun starts the processes of both machines again."""
    agents = cluster.start_all(name)
    cluster.wait_for_steps(name, 1, agents)
    os.kill(_worker(agents[victim]), signal.SIGKILL)
    assert f"resuming checkpoints/{name}" in _finished(agents)[0]


def a_machine_is_lost(cluster: Cluster, name: str, _: int) -> None:
    """The second machine is lost; torchrun waits for it, and it joins again."""
    agents = cluster.start_all(name)
    cluster.wait_for_steps(name, 1, agents)
    _lose(HOSTS[1])
    agents[1].communicate()
    time.sleep(FORGOTTEN)
    agents[1] = cluster.start(1, name)
    assert f"resuming checkpoints/{name}" in _finished(agents)[0]


def the_cable_is_cut(cluster: Cluster, name: str, end: int) -> None:
    """Both processes notice it and say so; joined again, the run is continued."""
    agents = cluster.start_all(name, restarts=0)
    cluster.wait_for_steps(name, 1, agents)
    assert _ip("-n", HOSTS[end], "link", "set", f"end{end}", "down")
    children = [_worker(agent) for agent in agents]
    limit = time.monotonic() + PATIENCE
    while any(_is_running(child) for child in children):
        assert time.monotonic() < limit, "a process waits"
        time.sleep(0.1)
    for host in HOSTS:  # torchrun itself waits for minutes
        _lose(host)
    for number, agent in enumerate(agents):
        text = agent.communicate()[1]
        lost = f"no answer from process {1 - number} on " in text
        assert lost or "lost the connection to another process" in text, text
    assert _ip("-n", HOSTS[end], "link", "set", f"end{end}", "up")
    _finished(cluster.start_all(name))


def _is_running(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def _worker(agent: Agent) -> int:
    """The process that a torchrun has started; ``ip`` has become torchrun itself."""
    children = Path(f"/proc/{agent.pid}/task").glob("*/children")
    (worker,) = (int(number) for path in children for number in path.read_text().split())
    return worker
