"""What differs by run, or by machine, in the words of test_cli_golden.py."""

import re


def clean(cluster):
    """What differs by run, or by machine, gets a word; columns are two spaces apart."""
    def replace(text):
        text = text.replace(str(cluster.dir), "DIR")
        text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
        text = re.sub(r"\b[0-9a-f]{32}\b", "ID", re.sub(r"\b[0-9a-f]{64}\b", "SHA256", text))
        text = re.sub(r"\b\d+[smhd]\b", "AGE", text)
        text = re.sub(r"(\"?\w*(?:_ms|revision|incarnation|report_seq|index|term)\"?: )\d+", r"\1N", text)
        text = re.sub(r"^Stored there:.*\n", "", text, flags=re.M)
        text = re.sub(r"(\"stored\": )\[[^\]]*\]", r"\1LIST", text)
        text = re.sub(r"(\"cpu_features\": )\[[^\]]*\]", r"\1LIST", text)
        text = re.sub(r"^( *cpu_features:)(?: \[\]|(?:\n *- [a-z0-9_]+)+)$", r"\1 LIST", text, flags=re.M)
        text = re.sub(r"(?:[a-z0-9_]+, ?){7,}(?:[a-z0-9_]+|\.\.\.)$", "FEATURES", text, flags=re.M)
        text = re.sub(r"\d+\.\d% CPU, \d+ MiB", "LOAD", text)
        text = re.sub(r"(\"?load_\w+\"?: )\d+", r"\1N", text)
        text = re.sub(r"\b\d+(  BestFit )\d+", r"N\1N", text)
        text = re.sub(r"(\"?virtualized\"?: )\w+", r"\1BOOL", text).replace(", is a virtual machine", "")
        text = re.sub(r"^(Index:|Revision:|revision ) .*$", r"\1 N", text, flags=re.M)
        return re.sub(r"(?<=\S) {2,}", "  ", text)
    return replace
