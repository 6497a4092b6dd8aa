"""An assembler for pickles: what torch.save writes, and programs that mean harm."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

START, STOP, MARK = b"\x80\x02", b".", b"("


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def group(*items: bytes) -> bytes:
    return MARK + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + group(*arguments) + b"R"


def storage(key: str = "0", kind: str = "FloatStorage", count: int = 4) -> bytes:
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), number(count)) + b"Q"


def tensor(
    source: bytes | None = None, offset: int = 0, shape: tuple[int, ...] = (2, 2), stride: tuple[int, ...] = (2, 1)
) -> bytes:
    hooks = call(name("collections", "OrderedDict"))
    sizes, strides = group(*map(number, shape)), group(*map(number, stride))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, source or storage(), number(offset), sizes, strides, b"\x89", hooks)


def state(**values: bytes) -> bytes:
    """A whole pickle of a dictionary."""
    return START + b"}" + b"".join(text(key) + value + b"s" for key, value in values.items()) + STOP


def archive(
    program: bytes,
    members: Mapping[str, bytes] | None = None,
    folder: str = "archive",
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A file as torch.save lays it out; member "0" holds four float32 by default."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        file.writestr(f"{folder}/data.pkl", program)
        file.writestr(f"{folder}/byteorder", "little")
        for key, data in ({"data/0": bytes(16)} if members is None else members).items():
            file.writestr(f"{folder}/{key}", data)
    return out.getvalue()


def hostile(canary: str) -> dict[str, bytes]:
    """Programs that would run code, allocate without bound, or never end; `canary` is a file that some would make."""
    shell = text(f"touch {canary}")
    code = text(f"open({canary!r}, 'w')")
    run = name("os", "system")
    evaluate = name("builtins", "eval")
    bad = {
        "os.system": call(run, shell),
        "posix.system": call(name("posix", "system"), shell),
        "nt.system": call(name("nt", "system"), shell),
        "subprocess.Popen": call(name("subprocess", "Popen"), group(text("touch"), text(canary))),
        "subprocess.check_output": call(name("subprocess", "check_output"), group(text("touch"), text(canary))),
        "builtins.eval": call(evaluate, code),
        "builtins.exec": call(name("builtins", "exec"), code),
        "python 2 builtins": call(name("__builtin__", "eval"), code),
        "builtins.compile": call(name("builtins", "compile"), code, text("a"), text("exec")),
        "builtins.open": call(name("builtins", "open"), text(canary), text("w")),
        "io.open": call(name("io", "open"), text(canary), text("w")),
        "builtins.getattr": call(name("builtins", "getattr"), name("os", "system"), text("__call__")),
        "builtins.__import__": call(name("builtins", "__import__"), text("antigravity")),
        "importlib": call(name("importlib", "import_module"), text("this")),
        "runpy": call(name("runpy", "run_path"), text(canary)),
        "pty.spawn": call(name("pty", "spawn"), shell),
        "shutil.rmtree": call(name("shutil", "rmtree"), text(canary)),
        "pathlib": call(name("pathlib", "PosixPath"), text(canary)),
        "socket": call(name("socket", "create_connection"), group(text("127.0.0.1"), number(9))),
        "urllib": call(name("urllib.request", "urlopen"), text("http://127.0.0.1:9/")),
        "webbrowser": call(name("webbrowser", "open"), text("http://127.0.0.1:9/")),
        "pickle in a pickle": call(name("pickle", "loads"), text("x")),
        "torch.load in a pickle": call(name("torch", "load"), text(canary)),
        "torch.serialization": call(name("torch.serialization", "load"), text(canary)),
        "torch.hub": call(name("torch.hub", "load"), text("x/y"), text("z")),
        "torch.jit": call(name("torch.jit", "load"), text(canary)),
        "torch script unpickling": call(name("torch.jit._pickle", "restore_type_tag"), text("x"), text("y")),
        "dynamic module": call(name("torch._dynamo", "optimize"), text("eager")),
        "operator.attrgetter": call(name("operator", "attrgetter"), text("system")),
        "functools.partial": call(name("functools", "partial"), run, shell),
        "code object": call(name("types", "CodeType"), number(0)),
        "ctypes": call(name("ctypes", "CDLL"), text("libc.so.6")),
        "numpy object array": call(
            name("numpy.core.multiarray", "_reconstruct"), name("numpy", "ndarray"), group(number(0)), text("b")
        ),
        "numpy scalar": call(name("numpy.core.multiarray", "scalar"), name("numpy", "dtype"), text("O")),
        "numpy.load": call(name("numpy", "load"), text(canary)),
        "dotted attribute": call(name("torch._utils", "os.system"), shell),
        "codecs": call(name("_codecs", "encode"), text("x"), text("latin1")),
        "bytearray bomb": call(name("builtins", "bytearray"), number(4 * 10**9)),
        "list bomb": call(name("builtins", "list"), call(name("builtins", "range"), number(10**12))),
        "tensor bomb": call(name("torch", "Tensor"), number(10**10)),
        "zeros bomb": call(name("torch", "zeros"), number(10**10)),
        "meta tensor": call(name("torch._utils", "_rebuild_meta_tensor_no_storage"), name("torch", "float32")),
        "sparse tensor": call(name("torch._utils", "_rebuild_sparse_tensor"), text("x"), text("y")),
        "numpy tensor": call(name("torch._utils", "_rebuild_device_tensor_from_numpy"), text("x")),
        "subclass": call(name("torch._tensor", "_rebuild_from_type_v2"), run, run, text("x"), text("y")),
        "a call of a call": call(call(name("collections", "OrderedDict")), text("x")),
        "a filled call": call(name("collections", "OrderedDict"), group(text("a"), number(1))),
        "INST": MARK + shell + b"ios\nsystem\n",
        "OBJ": MARK + run + shell + b"o",
        "NEWOBJ": run + group(shell) + b"\x81",
        "NEWOBJ_EX": run + group(shell) + b"}" + b"\x92",
        "STACK_GLOBAL": text("os") + text("system") + b"\x93" + group(shell) + b"R",
        "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00",
        "EXT4": b"\x84\x01\x00\x00\x00",
        "BUILD on a name": name("torch", "FloatStorage") + b"}" + text("__class__") + evaluate + b"s" + b"b",
        "BUILD on a tensor": tensor() + b"}" + text("__reduce__") + evaluate + b"s" + b"b",
        "BUILD with a call": call(name("collections", "OrderedDict")) + b"}" + text("__setstate__") + run + b"s" + b"b",
        "persistent text": b"Pos.system\n",
        "persistent call": group(text("module"), run, shell) + b"Q",
        "persistent code": group(text("storage"), run, text("0"), text("cpu"), number(4)) + b"Q",
        "persistent self": b"}" + b"q\x00" + b"h\x00" + b"Q",
    }
    programs = {title: START + b"}" + text("w") + body + b"s" + STOP for title, body in bad.items()}
    return programs | _bombs()


def _bombs() -> dict[str, bytes]:
    """Programs whose only harm is their size or shape."""
    laughs = b"]q\x00" + b"".join(
        b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(80)
    )
    pairs = b")q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(80))
    deep = b"]" * 200_000 + b"a" * 199_999
    return {
        "an endless stack of dictionaries": START + b"}" * 390_000 + STOP,
        "too many steps": START + b"}" * 3_000_000 + STOP,
        "too many memos": START + b"".join(b"}r" + struct.pack("<I", i) for i in range(190_000)) + STOP,
        "billion laughs of lists": START + laughs + STOP,
        "billion laughs of tuples as a key": START + b"}" + pairs + b"K\x01s" + STOP,
        "lists 200,000 deep": START + deep + STOP,
        "tuples 200,000 deep": START + b")" + b"\x85" * 200_000 + STOP,
        "a list in itself": START + b"]q\x00h\x00a" + STOP,
        "a dictionary in itself": START + b"}q\x00" + text("w") + b"h\x00s" + STOP,
        "a text longer than the file": START + b"X\xff\xff\xff\x7fabc" + STOP,
        "a text of 2^63 bytes": START + b"\x8d" + struct.pack("<Q", 2**63) + STOP,
        "a bytearray of 2^40 bytes": START + b"\x96" + struct.pack("<Q", 2**40) + STOP,
        "a number of 10,000 digits": START + b"L" + b"9" * 10_000 + b"L\n" + STOP,
        "an empty stack": START + STOP,
        "a pop from nothing": START + b"R" + STOP,
        "a memo never set": START + b"h\x07" + STOP,
        "no end": START + b"}",
        "nothing at all": b"",
        "an unknown opcode": START + b"\xfe" + STOP,
        "not a pickle": b"hello",
        "protocol 0 text": b"S'os'\n.",
    }
