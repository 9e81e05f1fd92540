"""A stock gRPC client against the tests' byte service. Usage: stock_client.py SOCKET; prints each check that fails and
exits 1, 0 when all hold, 77 without grpcio."""
import queue
import sys
import threading
import time

try:
    import grpc
except ImportError:
    sys.exit(77)

bad = 0
done = 0


def check(name, holds, extra=""):
    global bad, done
    done += 1
    if not holds:
        bad += 1
        print("FAILED:", name, extra, flush=True)


def fails(call):
    try:
        call()
    except grpc.RpcError as e:
        return e
    return None


channel = grpc.insecure_channel("unix:" + sys.argv[1], [("grpc.max_receive_message_length", 16 << 20),
                                                        ("grpc.max_send_message_length", 16 << 20)])
unary = lambda name: channel.unary_unary("/t.T/" + name)
stream = lambda name: channel.unary_stream("/t.T/" + name)
echo = unary("Echo")

check("unary", echo(b"hello", timeout=5) == b"hello")
check("empty", echo(b"", timeout=5) == b"")
big = bytes(range(256)) * 12000
check("3 MB both ways", echo(big, timeout=10) == big)
e = fails(lambda: echo(b"z" * (5 << 20), timeout=10))
check("over the limit", e and e.code() == grpc.StatusCode.INVALID_ARGUMENT and "limit" in e.details(), e)
e = fails(lambda: unary("Nope")(b"", timeout=5))
check("unknown method", e and e.code() == grpc.StatusCode.UNIMPLEMENTED, e)
e = fails(lambda: unary("Fail")(b"", timeout=5))
check("error", e and e.code() == grpc.StatusCode.ALREADY_EXISTS
      and e.details() == 'no "vm" n\u00e4me 100% \n done', e)
trailers = dict(e.trailing_metadata())
check("trailers", trailers.get("blixard-code") == "EXISTS" and trailers.get("blixard-origin") == "test-origin"
      and trailers.get("blixard-leader") == "unix:/run/l", trailers)
e = fails(lambda: list(stream("Break")(b"", timeout=5)))
check("error after messages", e and e.code() == grpc.StatusCode.OUT_OF_RANGE
      and e.details() == "the index 7 is gone", e)
check("metadata", unary("Meta")(b"", timeout=5, metadata=(("blixard-principal", "bob"), ("x-bin", b"\0\1"))) == b"bob")
e = fails(lambda: unary("Meta")(b"", timeout=5, metadata=(("x-long", "y" * 20000),)))
check("metadata over the limit", e is not None, e)
check("after it", echo(b"still", timeout=5) == b"still")
# grpcio rounds a timeout up before it sends it
left = int(unary("Left")(b"", timeout=30))
check("deadline is passed on", 20000 < left <= 31000, left)
e = fails(lambda: unary("Never")(b"", timeout=0.2))
check("deadline", e and e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e)
f = unary("Never").future(b"")
time.sleep(0.1)
f.cancel()
check("cancel", f.cancelled())
check("stream", [int(m.split()[0]) for m in stream("Count")(b"5000 200", timeout=20)] == list(range(5000)))
check("stream of 20 MB", sum(len(m) for m in stream("Count")(b"200 100000", timeout=20)) == 20000000)
it, seen = stream("Count")(b"100000000 1000"), 0
for _ in it:
    seen += 1
    if seen == 1000:
        it.cancel()
        break
check("cancel in a stream", seen == 1000)
e = fails(lambda: list(stream("Count")(b"100000000 1000", timeout=0.3)))
check("deadline in a stream", e and e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e)
e = fails(lambda: echo(b"a" * 5000, timeout=5, compression=grpc.Compression.Gzip))
check("compression is refused", e and e.code() == grpc.StatusCode.UNIMPLEMENTED, e)
e = fails(lambda: channel.stream_unary("/t.T/Echo")(iter([]), timeout=5))
check("no message", e and e.code() == grpc.StatusCode.INVALID_ARGUMENT, e)

bidi = lambda name: channel.stream_stream("/t.T/" + name)
answers = list(bidi("Talk")((b"%d" % i for i in range(3000)), timeout=20))
check("both ways", answers[:-1] == [b"%d" % i for i in range(3000)] and answers[-1].split()[0] == b"3000", answers[-1:])
check("both ways, large", sum(len(m) for m in bidi("Talk")((big for _ in range(8)), timeout=20)) > 8 * len(big))
check("half-close", list(bidi("Hear")((b"abc" for _ in range(7)), timeout=5)) == [b"7 21"])
check("half-close at once", list(bidi("Hear")(iter([]), timeout=5)) == [b"0 0"])
turns = queue.Queue()
it = bidi("Talk")(iter(turns.get, None), timeout=20)
said = []
for i in range(200):
    turns.put(b"turn %d" % i)
    said.append(next(it))
turns.put(None)
check("turn by turn", said == [b"turn %d" % i for i in range(200)] and len(list(it)) == 1)
made = 0


def many():
    global made
    for _ in range(50000):
        made += 1
        yield b"m" * 1000


it = bidi("Talk")(many(), timeout=60)
next(it)
# Until the windows and queues on the way are full, however busy the machine is.
before, still, patience = -1, 0, time.monotonic() + 15
while still < 5 and time.monotonic() < patience:
    still = still + 1 if made == before else 0
    before = made
    time.sleep(0.2)
check("who does not read is not sent to", still == 5 and made < 20000, (before, made))
check("and goes on later", sum(1 for _ in it) == 50000 and made == 50000, made)
e = fails(lambda: list(bidi("Enough")(many(), timeout=10)))
check("error while sending", e and e.code() == grpc.StatusCode.OUT_OF_RANGE and e.details() == "one is enough", e)
it = bidi("Talk")(many(), timeout=60)
next(it)
it.cancel()
check("cancel both ways", fails(lambda: list(it)).code() == grpc.StatusCode.CANCELLED)
e = fails(lambda: list(bidi("Hear")(iter(turns.get, None), timeout=0.3)))
turns.put(None)
check("deadline both ways", e and e.code() == grpc.StatusCode.DEADLINE_EXCEEDED, e)

good = []


def work():
    for i in range(200):
        good.append(echo(b"p%d" % i, timeout=10) == b"p%d" % i)


threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
check("8 threads of 200 calls", len(good) == 1600 and all(good))
channel.close()
print(done, "checks,", bad, "failed")
sys.exit(1 if bad else 0)
