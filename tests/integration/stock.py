"""A stock gRPC client: messages by protoc from the generated blixard.proto, the transport by grpcio."""

import importlib
import subprocess
import sys

import grpc
import pytest

from cluster import ROOT

DEADLINE_S = 30


def compile_proto(directory):
    """The messages' module, made by protoc in a directory."""
    subprocess.run(["protoc", f"-I{ROOT}/lib/schema", f"--python_out={directory}", "blixard.proto"], check=True)
    sys.path.insert(0, str(directory))
    return importlib.import_module("blixard_pb2")


class Stub:
    """Calls by their names in the service: stub.VmGet(request), stub.Watch(request) for a stream."""

    def __init__(self, messages, socket, options=None):
        self.messages = messages
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=options)

    def __getattr__(self, name):
        method = self.messages.DESCRIPTOR.services_by_name["Blixard"].methods_by_name[name]
        answer = getattr(self.messages, method.output_type.name)
        stream = name in ("Watch", "VmLogs")
        make = self.channel.unary_stream if stream else self.channel.unary_unary
        call = make(
            f"/blixard.v1.Blixard/{name}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return lambda request, timeout=DEADLINE_S: call(request, timeout=timeout)

    def exec(self, inputs, timeout=DEADLINE_S):
        """VmExec, which streams both ways: an iterator of inputs in, an iterator of outputs out."""
        call = self.channel.stream_stream(
            "/blixard.v1.Blixard/VmExec",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=self.messages.VmExecOutput.FromString,
        )
        return call(inputs, timeout=timeout)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def refused(call, *arguments):
    """The error of a call that must fail: its status, its sentence, the code of Blixard."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    error = caught.value
    trailers = dict(error.trailing_metadata() or ())
    return error.code(), error.details(), trailers.get("blixard-code")
