import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import cluster as clusters  # noqa: E402
import stock  # noqa: E402


def pytest_sessionstart(session):
    missing = [p for p in ("blixardd", "blixard", "blixard-shim", "blixard-guest") if not (clusters.BIN / p).exists()]
    if missing:
        pytest.exit(f"{clusters.BIN} holds no {', '.join(missing)}: run 'make all' or set BLX_BUILD", returncode=3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The ends of the daemons' logs go into the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():
            if isinstance(value, clusters.Cluster):
                for node in value.nodes:
                    report.sections.append((f"log of {node.name}", node.log_end()))


@pytest.fixture
def new_cluster():
    """Makes clusters that end with the test."""
    made = []

    def make(*arguments, **more):
        made.append(clusters.Cluster(*arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def shared():
    """One simulated cluster for the tests of a module that do no harm to it; each uses names of its own."""
    one = clusters.Cluster()
    try:
        yield one.form()
    finally:
        one.close()


@pytest.fixture(scope="session")
def messages(tmp_path_factory):
    return stock.compile_proto(tmp_path_factory.mktemp("proto"))
