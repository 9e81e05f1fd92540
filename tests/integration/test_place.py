"""examples/place.c: the strategies over files in the format of the trace OpenB, without a cluster."""

import json
import subprocess

import pytest

from cluster import BUILD

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,4000,8192,0,\nn2,8000,8192,0,\n"
PODS = "name,cpu_milli,memory_mib,num_gpu\np1,2000,1024,0\np2,2000,0,1\np3,500,1024,0\np4,9000,1024,0\np5,4000,4096,0\n"


@pytest.fixture
def place(tmp_path):
    def run(*options, nodes=NODES, pods=PODS):
        (tmp_path / "nodes.csv").write_text(nodes)
        (tmp_path / "pods.csv").write_text(pods)
        command = [BUILD / "examples/place", "nodes.csv", "pods.csv", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return run


def told(done):
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    answer = json.loads(done.stdout)
    assert answer.pop("seconds") >= 0
    return answer


def test_the_pods_come_once_and_one_that_fits_nowhere_is_counted(place):
    assert told(place()) == {
        "placed": 4,
        "refused": 1,
        "first_refusal_at": 4,
        "nodes_used": 2,
        "cpu_allocated_pct": 70.833,
        "memory_allocated_pct": 37.5,
    }


def test_with_stop_at_refusal_they_come_again_until_one_is_refused(place):
    pods = "name,cpu_milli,memory_mib\np1,1000,1\np2,1000,1024\n"
    assert told(place("--stop-at-refusal", pods=pods)) == {
        "placed": 12,
        "refused": 1,
        "first_refusal_at": 13,
        "nodes_used": 2,
        "cpu_allocated_pct": 100.0,
        "memory_allocated_pct": round(100 * 6 * 1025 / 16384, 3),
    }


@pytest.mark.parametrize("strategy, used", [("best-fit", 1), ("load-balanced", 2)])
def test_a_strategy_is_taken_by_its_name(place, strategy, used):
    answer = told(place("--strategy", strategy, pods="name,cpu_milli,memory_mib\np1,1000,1024\np2,1000,1024\n"))
    assert (answer["placed"], answer["first_refusal_at"], answer["nodes_used"]) == (2, None, used)


@pytest.mark.parametrize("strategy", ["data-locality", "network-proximity"])
def test_what_has_nothing_to_be_near_is_placed_all_the_same(place, strategy):
    assert told(place("--strategy", strategy))["placed"] == 4


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({"pods": PODS + "p6,many,1\n"}, "place: pods.csv: line 7: it is not a name, then two whole numbers"),
        ({"pods": PODS + "p6,1000,12x\n"}, "place: pods.csv: line 7: it is not"),
        ({"pods": PODS + "p6,-5,12\n"}, "place: pods.csv: line 7: it is not"),
        ({"pods": PODS + "p6,1000,99999999999999999999\n"}, "place: pods.csv: line 7: it is not"),
        ({"pods": PODS + "p6,1000,2000000\n"}, "place: pods.csv: line 7: memory_mib: 2000000 is above 1048576"),
        ({"pods": PODS + f"p6,1,1,{'x' * 2000}\n"}, "place: pods.csv: line 7: it is not"),
        ({"pods": "name,memory_mib,cpu_milli\np1,1,1\n"}, "place: pods.csv: line 1: columns 2 and 3 must be named"),
        ({"pods": "name,cpu_milli,memory_mib\n"}, "place: pods.csv: there is no line below the head"),
        ({"nodes": ""}, "place: nodes.csv: line 1: columns 2 and 3 must be named"),
        ({"nodes": NODES + "n3,2147483647,1\n"}, "place: nodes.csv: line 4: "),
    ],
)
def test_bad_input_is_one_sentence_with_the_line_and_status_2(place, changed, sentence):
    done = place(**changed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence) and done.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [("--strategy",), ("--strategy", "fullest"), ("--fast",)])
def test_options_that_there_are_not_are_refused_with_those_there_are(place, options):
    done = place(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"place: {options[0]}: options are --stop-at-refusal, "
        "--strategy best-fit|load-balanced|data-locality|network-proximity\n"
    )


def test_a_file_that_is_not_there_is_named(tmp_path):
    command = [BUILD / "examples/place", "none.csv", "none.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, "place: none.csv: No such file or directory\n")
