import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
INTEGRATION = HERE.parent / "integration"
sys.path[:0] = [str(HERE), str(INTEGRATION)]

import net  # noqa: E402
import stock  # noqa: E402


@pytest.fixture(scope="session")
def messages(tmp_path_factory):
    return stock.compile_proto(tmp_path_factory.mktemp("proto"))


@pytest.fixture(scope="session")
def relay(tmp_path_factory):
    return net.relay_program(tmp_path_factory.mktemp("relay"))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-D_GNU_SOURCE", INTEGRATION / "faults.c", "-o", path,
               "-ldl"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def new_net(relay, library):
    """Makes clusters with a network between their nodes; they end with the test."""
    if (why := net.cannot()):
        pytest.skip(f"skipped: no network or file system can be made here: {why}")
    made = []

    def make(names=("n1", "n2", "n3"), preload=True, **more):
        made.append(net.NetCluster(names, relay, library=library if preload else None, **more))
        return made[-1]

    def close(one):
        made.remove(one)
        one.close()

    make.close = close
    yield make
    for one in made:
        one.close()
