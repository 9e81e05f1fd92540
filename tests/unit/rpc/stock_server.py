"""A stock gRPC server for our caller. Usage: stock_server.py SOCKET; serves until it is killed, exits 77 without
grpcio.

/t.T/Talk    each message back, then the count of them
/t.T/Slow    nothing for a second, then counts what comes
/t.T/Enough  one message, then OUT_OF_RANGE
"""
import sys
import time
from concurrent import futures

try:
    import grpc
except ImportError:
    sys.exit(77)


def talk(requests, _context):
    n = 0
    for m in requests:
        n += 1
        yield m
    yield b"%d" % n


def slow(requests, _context):
    time.sleep(1)
    yield b"%d" % sum(1 for _ in requests)


def enough(requests, context):
    next(requests)
    context.abort(grpc.StatusCode.OUT_OF_RANGE, "one is enough")
    yield b""


METHODS = {"/t.T/Talk": talk, "/t.T/Slow": slow, "/t.T/Enough": enough}


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        method = METHODS.get(details.method)
        return grpc.stream_stream_rpc_method_handler(method) if method else None


server = grpc.server(futures.ThreadPoolExecutor(8), [Service()])
server.add_insecure_port("unix:" + sys.argv[1])
server.start()
server.wait_for_termination()
