"""The guard of tests/offline: nothing in the tests reaches the network, in this process or in one that it starts."""

import os
import shutil
import socket
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OUTSIDE = "192.0.2.1"  # set aside for documentation: nobody has it


def test_a_connection_is_refused():
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as one, pytest.raises(RuntimeError, match="must not use the network"):
            one.connect((OUTSIDE, 9))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(RuntimeError, match="sendto"):
        one.sendto(b"", (OUTSIDE, 9))


def test_a_name_is_not_looked_up():
    with pytest.raises(RuntimeError, match=r"'example\.org': tests must not use the network"):
        urllib.request.urlopen("http://example.org", timeout=1)


def test_loopback_and_unix_sockets_are_left():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5).close()
    ends = socket.socketpair()
    ends[0].sendall(b"here")
    assert ends[1].recv(4) == b"here"
    for end in ends:
        end.close()


@pytest.mark.parametrize("inherited", [True, False])
def test_processes_that_tests_start_have_it_too(inherited):
    environment = None if inherited else dict(os.environ)
    code = f"import socket; socket.create_connection(('{OUTSIDE}', 9), 1)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ended.returncode != 0
    assert "tests must not use the network" in ended.stderr


@pytest.mark.slow
def test_an_attempt_whose_error_is_swallowed_fails_the_tests(tmp_path):
    """In a session of its own, with the same conftest."""
    code = f"""
        import socket
        def test_that_passes():
            try:
                socket.create_connection(('{OUTSIDE}', 9), 1)
            except RuntimeError:
                pass
    """
    shutil.copy(TESTS / "conftest.py", tmp_path)
    shutil.copytree(TESTS / "offline", tmp_path / "offline")
    (tmp_path / "test_any.py").write_text(textwrap.dedent(code))
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stderr
    assert f"refused: socket.getaddrinfo to '{OUTSIDE}' in test_any.py::test_that_passes" in ended.stdout
