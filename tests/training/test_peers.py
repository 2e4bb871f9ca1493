"""Processes that find each other, agree on where to stop and leave; all in threads of one process here."""

import socket
import threading
import time

import pytest
from hosts import free_port

from jaxiqa.errors import ConfigError, PeerLost
from jaxiqa.training import distributed
from jaxiqa.training.peers import Peers


def together(count: int, run, timeout: float = 20.0) -> list:
    """What run(peers) gives or raises in each of `count` processes."""
    port, results = free_port(), [None] * count

    def process(index):
        try:
            results[index] = run(Peers("localhost", port, count, index, timeout))
        except (ConfigError, PeerLost) as error:
            results[index] = error

    threads = [threading.Thread(target=process, args=(i,)) for i in reversed(range(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("told", [(2,), (0,), (0, 1, 2)])
def test_all_stop_before_one_step(told):
    """However far each of them is, and whoever of them is told."""

    def run(peers):
        stopped = None
        for step in range(3000):
            if number := peers.stop_at(step, 15 if peers.index in told and step > 100 else None):
                stopped = step, number
                break
            time.sleep(0.001 * (1 + peers.index))  # they are at different steps
        peers.leave()
        return stopped

    stopped = together(3, run)
    assert len(set(stopped)) == 1 and 101 < stopped[0][0] < 3000 and stopped[0][1] == 15, stopped


def test_the_steps_of_a_run_without_signals():
    def run(peers):
        assert [peers.stop_at(step, None) for step in range(5)] == [None] * 5
        peers.leave()
        return "left"

    assert together(4, run) == ["left"] * 4


def test_two_processes_of_one_number():
    port = free_port()
    errors = []

    def process(index):
        try:
            Peers("localhost", port, 3, index, 20)
        except ConfigError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=process, args=(i,)) for i in (0, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == ["two processes say that they are process 1; give each a --process_id of its own"] * 3


def test_another_number_of_processes():
    port, errors = free_port(), []

    def process(count, index):
        try:
            Peers("localhost", port, count, index, 1.5)
        except (ConfigError, PeerLost) as error:
            errors.append((type(error), str(error)))

    threads = [threading.Thread(target=process, args=a) for a in ((2, 0), (3, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(errors, key=str) == [
        (ConfigError, "process 1 of 3 is none of the 2 of process 0"),
        (PeerLost, "waited 2 s for 1 of 2: process 1; start all processes within --peer_timeout"),
    ]


@pytest.mark.parametrize("ours", [0, 1])
def test_a_port_in_use(ours):
    """JAX's, which would abort the process, and the one beside it, where processes meet."""
    port = free_port()
    with (
        socket.create_server(("", port + ours)),
        pytest.raises(ConfigError, match=rf"cannot listen at port {port + ours} \("),
    ):
        Peers("localhost", port, 2, 0, 5)


def test_strangers_are_not_heard():
    port = free_port()

    def knock():
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"index": "1", "count": 2}\n', b"\xff" * 100):
            with socket.create_connection(("localhost", port + 1)) as stranger:
                stranger.sendall(data)

    threading.Timer(0.5, knock).start()
    with pytest.raises(PeerLost, match=r"waited 2 s for 1 of 2: process 1"):
        Peers("localhost", port, 2, 0, 2)


class TestFind:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch):
        for name in ("COORDINATOR", "NUM_PROCESSES", "PROCESS_ID"):
            monkeypatch.delenv(f"JAXIQA_{name}", raising=False)

    def test_alone(self):
        assert distributed.find() is None and distributed.find("host:1", 1, 0) is None

    def test_flags_before_environment(self, monkeypatch):
        monkeypatch.setenv("JAXIQA_COORDINATOR", "[::1]:8476")
        monkeypatch.setenv("JAXIQA_NUM_PROCESSES", "4")
        monkeypatch.setenv("JAXIQA_PROCESS_ID", "2")
        assert distributed.find() == ("::1", 8476, 4, 2, "")
        assert distributed.find(process_id=0) == ("::1", 8476, 4, 0, "")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("host:1", 2, None), "--process_id is missing"),
            ((None, None, 0), "--coordinator is missing"),
            (("host", 2, 0), "write HOST:PORT of process 0"),
            (("host:99999", 2, 0), "write HOST:PORT of process 0"),
            (("host:1", 2, 2), "a number from 0 to num_processes - 1"),
        ],
    )
    def test_half_of_it(self, given, message):
        with pytest.raises(ConfigError, match=message):
            distributed.find(*given)

    def test_slurm(self, monkeypatch):
        for name, value in {
            "JOB_ID": "4096", "STEP_NODELIST": "node[003-004]", "NTASKS": "8", "PROCID": "5", "LOCALID": "1",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"SLURM_{name}", value)
        assert distributed.find() == ("node003", 61440, 8, 5, "slurm")
        monkeypatch.setenv("SLURM_NTASKS", "1")
        assert distributed.find() is None

    def test_open_mpi(self, monkeypatch):
        monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911")
        for name, value in {"SIZE": "2", "RANK": "1", "LOCAL_RANK": "0"}.items():
            monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
        assert distributed.find() == ("10.96.0.1", 62624, 2, 1, "ompi")
