#!/usr/bin/python3
"""Compare lib/schema with stock protobuf, both ways, on random messages of every type.

Stock protobuf (protoc, python3-protobuf) reads the committed .proto files. For each message: bytes through C come back
the same; C's JSON is protobuf's; protobuf's JSON becomes the same bytes; fields of a newer schema survive byte
for byte;
what C generates protobuf reads to the same bytes and JSON; of damaged bytes C never accepts what protobuf refuses.
Ends with one line, and status 0 if all was equal.
"""
import argparse
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as FD

HERE = os.path.dirname(os.path.abspath(__file__))
SCHEMA = os.path.join(HERE, "..", "..", "lib", "schema")
PROTOS = ["blixard.proto", "blixard_member.proto"]
RANGES = {
    FD.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FD.CPPTYPE_UINT32: (0, 2**32 - 1),
    FD.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FD.CPPTYPE_UINT64: (0, 2**64 - 1),
}
WIDE = (FD.CPPTYPE_INT64, FD.CPPTYPE_UINT64)
LETTERS = 'abZ09_-"\\/\n\t\x01\x7f <é中😀\u2028'


class Mismatch(Exception):
    pass


class Filter:
    """The C codec, answering one frame at a time."""

    def __init__(self, binary):
        self.process = subprocess.Popen([binary, "pass"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, op, name, data):
        parts = [op.encode(), name.encode(), data]
        self.process.stdin.write(b"".join(struct.pack("<I", len(p)) + p for p in parts))
        self.process.stdin.flush()
        return self.part() == b"K", self.part()

    def part(self):
        head = self.process.stdout.read(4)
        if len(head) < 4:
            raise Mismatch("the filter ended with status %s" % self.process.wait())
        return self.process.stdout.read(struct.unpack("<I", head)[0])

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise Mismatch("the filter ended with status %d" % self.process.returncode)


def compile_protos():
    """The file descriptors that protoc makes of the .proto files, and C's name of each message."""
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "set")
        subprocess.run(["protoc", "-I", SCHEMA, "--descriptor_set_out", out, *PROTOS], check=True)
        with open(out, "rb") as f:
            files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    names = {}
    with open(os.path.join(SCHEMA, "schema.lock"), encoding="utf-8") as f:
        for line in f:
            match = re.match(r"message (\S+) (\S+)$", line)
            if match:
                names[match.group(2)] = match.group(1)
    return files, names


def classes(files, names):
    pool = descriptor_pool.DescriptorPool()
    for f in files.file:
        pool.Add(f)
    factory = message_factory.MessageFactory(pool)
    return {p: factory.GetPrototype(pool.FindMessageTypeByName("blixard.v1." + p)) for p in names}


def newer(files, names):
    """The same files as a later release might have them: new fields in gaps and at the end of each message."""
    later = descriptor_pb2.FileDescriptorSet()
    later.CopyFrom(files)
    for f in later.file:
        for m in f.message_type:
            if m.name not in names:
                continue
            used = {field.number for field in m.field}
            free = [n for n in range(1, max(used, default=0) + 12) if n not in used][:8]
            kinds = [
                (FD.TYPE_STRING, FD.LABEL_OPTIONAL),
                (FD.TYPE_UINT64, FD.LABEL_REPEATED),
                (FD.TYPE_FIXED64, FD.LABEL_OPTIONAL),
                (FD.TYPE_FIXED32, FD.LABEL_OPTIONAL),
                (FD.TYPE_BYTES, FD.LABEL_REPEATED),
                (FD.TYPE_SINT64, FD.LABEL_OPTIONAL),
                (FD.TYPE_DOUBLE, FD.LABEL_REPEATED),
                (FD.TYPE_BOOL, FD.LABEL_OPTIONAL),
            ]
            for number, (kind, label) in zip(free, kinds):
                m.field.add(name="later_%d" % number, number=number, type=kind, label=label)
    return classes(later, names)


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def value(self, field):
        r, kind = self.random, field.cpp_type
        if kind in RANGES:
            low, high = RANGES[kind]
            pick = r.random()
            edges = [0, low, high, 2**53, 2**53 + 1, 127, 128]
            if pick < 0.3:
                return min(r.choice(edges), high)
            return r.randint(max(low, -300), 300) if pick < 0.7 else r.randint(low, high)
        if kind == FD.CPPTYPE_BOOL:
            return r.random() < 0.5
        if kind == FD.CPPTYPE_DOUBLE:
            return r.uniform(-1e9, 1e9)
        if kind == FD.CPPTYPE_ENUM:
            later = [1000000, -3] if r.random() < 0.2 else []
            return r.choice([v.number for v in field.enum_type.values] + later)
        if field.type == FD.TYPE_BYTES:
            return bytes(r.randrange(256) for _ in range(r.randrange(33)))
        return "".join(r.choice(LETTERS) for _ in range(r.randrange(9)))

    def fill(self, message, depth):
        r = self.random
        for field in message.DESCRIPTOR.fields:
            if r.random() < 0.35 or (field.message_type and depth == 0):
                continue
            repeated = field.label == FD.LABEL_REPEATED
            if field.message_type and repeated:
                for _ in range(r.randrange(4)):
                    self.fill(getattr(message, field.name).add(), depth - 1)
            elif field.message_type:
                self.fill(getattr(message, field.name), depth - 1)
                getattr(message, field.name).SetInParent()
            elif repeated:
                getattr(message, field.name).extend(self.value(field) for _ in range(r.randrange(12)))
            else:
                setattr(message, field.name, self.value(field))
        return message

    def damage(self, data):
        r, data = self.random, bytearray(data)
        for _ in range(r.randrange(1, 4)):
            if not data:
                break
            at, how = r.randrange(len(data)), r.random()
            if how < 0.5:
                data[at] = r.randrange(256)
            elif how < 0.7:
                del data[at]
            elif how < 0.85:
                del data[at:]
            else:
                data.insert(at, r.randrange(256))
        return bytes(data)


def bytes_of(message):
    return message.SerializeToString(deterministic=True)


def stock_takes(kind, data):
    """Whether protobuf reads the bytes; what its C++ part would say on stderr is left out."""
    sys.stderr.flush()
    keep, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        kind.FromString(data)
        return True
    except Exception:  # protobuf raises several kinds
        return False
    finally:
        os.dup2(keep, 2)
        os.close(keep)
        os.close(null)


def dict_of(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def as_stock(value, descriptor):
    """C's JSON with its 64-bit numbers as text, which is how stock protobuf prints them."""
    out = {}
    for key, item in value.items():
        field = descriptor.fields_by_name[key]
        one = lambda x, field=field: (
            as_stock(x, field.message_type) if field.message_type else str(x) if field.cpp_type in WIDE else x
        )
        out[key] = [one(x) for x in item] if field.label == FD.LABEL_REPEATED else one(item)
    return out


class Cross:
    def __init__(self, binary, seed):
        files, self.names = compile_protos()
        self.binary, self.maker = binary, Maker(seed)
        self.now, self.later = classes(files, self.names), newer(files, self.names)
        self.codec = Filter(binary)
        self.compared = self.agreed = self.stricter = 0

    def equal(self, want, got, what, message):
        if want != got:
            raise Mismatch("%s: protobuf has\n  %r\nC has\n  %r\nof\n%s" % (what, want, got, message))
        self.compared += 1

    def from_protobuf(self, proto):
        name, message = self.names[proto], self.maker.fill(self.now[proto](), self.maker.random.randrange(5))
        data = bytes_of(message)
        self.equal((True, data), self.codec("p", name, data), proto + " bytes to bytes", message)
        ok, text = self.codec("j", name, data)
        self.equal(True, ok, proto + " to JSON", text)
        self.equal(dict_of(message), as_stock(json.loads(text), message.DESCRIPTOR), proto + " as JSON", message)
        stock = json_format.MessageToJson(message, preserving_proto_field_name=True).encode()
        self.equal((True, data), self.codec("J", name, stock), proto + " from JSON", message)

    def from_later(self, proto):
        message = self.maker.fill(self.later[proto](), self.maker.random.randrange(4))
        data = bytes_of(message)
        self.equal((True, data), self.codec("p", self.names[proto], data), proto + " of a newer schema", message)

    def merged(self, proto):
        first, second = (self.maker.fill(self.now[proto](), 2) for _ in range(2))
        data = bytes_of(first) + bytes_of(second)
        ok, got = self.codec("p", self.names[proto], data)
        if ok:
            self.equal(bytes_of(self.now[proto].FromString(data)), got, proto + " merged", first)

    def damaged(self, proto):
        source = self.maker.random.choice([self.now, self.later])[proto]
        data = self.maker.damage(bytes_of(self.maker.fill(source(), 2)))
        stock = stock_takes(self.now[proto], data)
        ok, got = self.codec("p", self.names[proto], data)
        if ok and not stock:
            raise Mismatch("%s: C accepts what protobuf refuses: %s" % (proto, data.hex()))
        self.agreed += ok == stock
        self.stricter += ok != stock
        if ok:
            self.now[proto].FromString(got)
            self.equal((True, got), self.codec("p", self.names[proto], got), proto + " fixed point", data.hex())

    def from_c(self, rounds):
        seed = str(self.maker.random.randrange(10**9))
        out = subprocess.run([self.binary, "gen", seed, str(rounds)], capture_output=True, check=True).stdout
        parts, at = [], 0
        while at < len(out):
            n = struct.unpack_from("<I", out, at)[0]
            parts.append(out[at + 4 : at + 4 + n])
            at += 4 + n
        for name, data, text in zip(*[iter(parts)] * 3):
            kind = self.now[name.decode()]
            message = kind.FromString(data)
            self.equal(bytes_of(message), data, "C's bytes", message)
            self.equal(dict_of(message), as_stock(json.loads(text), message.DESCRIPTOR), "C's JSON", message)
            self.equal(bytes_of(json_format.Parse(text, kind())), data, "C's JSON read by protobuf", message)

    def run(self, messages):
        rounds = max(1, -(-messages // len(self.names)))
        for _ in range(rounds):
            for proto in self.names:
                self.from_protobuf(proto)
                self.from_later(proto)
                self.merged(proto)
                self.damaged(proto)
        self.from_c(rounds)
        self.codec.close()
        return rounds * len(self.names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", required=True, help="tests/schema/filter of the build tree")
    parser.add_argument("-n", type=int, default=2000, help="messages each way (2000)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    cross = None
    try:
        cross = Cross(args.bin, args.seed)
        made = cross.run(args.n)
    except Mismatch as why:
        print("cross: seed %d: %s" % (args.seed, why))
        return 1
    print(
        "cross: seed %d: %d messages of %d types each way, %d comparisons equal; "
        "damaged: %d alike, %d refused by C alone"
        % (args.seed, made, len(cross.names), cross.compared, cross.agreed, cross.stricter)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
