"""PyTorch's .bin files: equal to torch.load on what is sound; of what is hostile, nothing is run, made or grown."""

from __future__ import annotations

import contextlib
import random
import struct
import zipfile
from pathlib import Path

import damage
import limits
import pickles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pickles import archive, call, group, name, number, state, storage, tensor, text
from torch import nn

import audited
from paddock.checkpoint import pickled, torchbin, zipped
from paddock.errors import CheckpointError, InputError, PaddockError, UnsupportedError


def read(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    path.write_bytes(data)
    return {key: stored.load() for key, stored in torchbin.read(path).items()}


def assert_same_as_torch(path: Path) -> None:
    ours, theirs = torchbin.read(path), torch.load(path, weights_only=True)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        loaded = ours[key].load()
        assert (ours[key].dtype, ours[key].shape) == (loaded.dtype, loaded.shape) == (value.dtype, tuple(value.shape))
        assert torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (loaded, value)))


def sound() -> dict[str, torch.Tensor]:
    """Every type, and views of every kind."""
    base = torch.arange(60.0).reshape(6, 10)
    kinds = [dtype for key, dtype in pickled.DTYPES.items() if key != "torch.storage UntypedStorage"]
    made = {str(kind): base[:2].to(kind) for kind in kinds}
    return made | {
        "turned": base.T,
        "part": base[1:3, 2:7:2],
        "shared": base[5],
        "stretched": torch.arange(5).expand(1, -1),
        "none": torch.empty(4, 0),
        "parameter": nn.Parameter(torch.ones(2, 1)),
        "buffer": nn.Parameter(torch.ones(2), requires_grad=False),
    }


def test_every_type_and_view(tmp_path: Path) -> None:
    torch.save(sound(), tmp_path / "a.bin")
    assert_same_as_torch(tmp_path / "a.bin")


def test_a_module_and_its_versions(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Embedding(7, 2))
    torch.save(module.state_dict(), tmp_path / "a.bin")
    assert_same_as_torch(tmp_path / "a.bin")


def test_tied_weights_share_memory(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    torch.save({"a": weight, "b": weight, "c": weight[1]}, tmp_path / "a.bin")
    loaded = {key: stored.load() for key, stored in torchbin.read(tmp_path / "a.bin").items()}
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr() == loaded["c"].data_ptr() - 12


def test_nothing_is_read_before_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    torch.save({"a": torch.zeros(4)}, path)
    stored = torchbin.read(path)["a"]
    at = zipped.members(torchbin.MappedFile(path))["a/data/0"][0]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<f", 7.0))
    assert stored.load()[0] == 7.0


def test_saving_with_zip64_records_and_a_comment(tmp_path: Path) -> None:
    """What torch writes for files beyond 4 GiB, made small."""
    program = state(w=tensor())
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as file:
        for key, data in {"data.pkl": program, "data/0": bytes(16)}.items():
            with file.open(f"m/{key}", "w", force_zip64=True) as member:
                member.write(data)
        file.comment = b"a comment" * 100
    assert read(tmp_path / "b.bin", (tmp_path / "a.bin").read_bytes())["w"].shape == (2, 2)


def test_hostile_programs_do_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    programs = pickles.hostile(str(canary))
    (tmp_path / "warm up.bin").write_bytes(archive(programs["os.system"]))
    files = [tmp_path / "warm up.bin"]
    for title, program in programs.items():
        files.append(tmp_path / f"{title.replace('/', '-')}.bin")
        files[-1].write_bytes(archive(program))
    before = sorted(tmp_path.iterdir())
    found = audited.audit("paddock.checkpoint.torchbin:read", files)
    assert len(found) >= 80
    assert {title: outcome for title, (outcome, _) in found.items() if "InputError" not in outcome} == {}
    assert {title: events for title, (_, events) in found.items() if events} == {}
    assert sorted(tmp_path.iterdir()) == before
    assert not canary.exists()


def test_a_refusal_names_the_code_that_was_asked_for(tmp_path: Path) -> None:
    for program in (state(w=call(name("os", "system"), text("true"))), state(w=name("os", "system"), v=tensor())):
        with pytest.raises(CheckpointError, match="asks for the code 'os system'"):
            read(tmp_path / "a.bin", archive(program))


def test_the_watch_sees_what_a_real_unpickler_would_do(tmp_path: Path) -> None:
    """Without this the test above could pass because the watch is blind."""
    programs = pickles.hostile(str(tmp_path / "canary"))
    files = [tmp_path / "0"]
    files[0].write_bytes(b"N.")
    for title in ("os.system", "builtins.eval", "io.open", "subprocess.Popen", "builtins.compile", "INST", "OBJ"):
        files.append(tmp_path / title)
        files[-1].write_bytes(programs[title])
    found = audited.audit("unsafe:unpickle", files)
    assert [title for title, (_, events) in found.items() if not events] == ["0"]
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "title",
    [title for title in pickles.hostile("x") if title in pickles._bombs() or "bomb" in title],
)
def test_bombs_stay_within_the_contract(title: str, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(archive(pickles.hostile("x")[title]))
    print(title, limits.check(torchbin.read, path))


def rebuilt(*arguments: bytes) -> bytes:
    return state(w=call(name("torch._utils", "_rebuild_tensor_v2"), *arguments))


HOOKS = call(name("collections", "OrderedDict"))
PAIR, ONE = group(number(2), number(2)), group(number(2), number(1))
SHAPES: dict[str, bytes] = {
    "past the storage": state(w=tensor(offset=1)),
    "far past the storage": state(w=tensor(offset=2**49)),
    "offset of 2^63": state(w=tensor(offset=2**63)),
    "negative offset": state(w=tensor(offset=-1)),
    "stride past the storage": state(w=tensor(stride=(3, 1))),
    "stride of 2^40": state(w=tensor(stride=(2**40, 1))),
    "stride of 2^64": state(w=tensor(stride=(2**64, 1))),
    "negative stride": state(w=tensor(stride=(-2, 1))),
    "overlapping rows": state(w=tensor(shape=(3, 2), stride=(1, 1))),
    "a huge stretched view": state(w=tensor(shape=(2**40, 2**9), stride=(0, 0))),
    "a view of more than its storage": state(w=tensor(shape=(5,), stride=(0,))),
    "shape that wraps": state(w=tensor(shape=(2**32, 2**32), stride=(0, 0))),
    "shape too large": state(w=tensor(shape=(2, 3))),
    "negative shape": state(w=tensor(shape=(-2, -2))),
    "more strides than sizes": state(w=tensor(shape=(2,), stride=(1, 1))),
    "17 dimensions": state(w=tensor(shape=(1,) * 17, stride=(1,) * 17)),
    "shape of booleans": rebuilt(storage(), number(0), group(b"\x88", b"\x88"), ONE, b"\x89", HOOKS),
    "shape of text": rebuilt(storage(), number(0), text("22"), text("21"), b"\x89", HOOKS),
    "shape of lists": rebuilt(storage(), number(0), b"]", b"]", b"\x89", HOOKS),
    "storage that is text": rebuilt(text("0"), number(0), PAIR, ONE, b"\x89", HOOKS),
    "storage that is a tensor": rebuilt(tensor(), number(0), PAIR, ONE, b"\x89", HOOKS),
    "too few arguments": rebuilt(storage(), number(0)),
    "storage of another size": state(w=tensor(storage(count=5))),
    "storage of another type": state(w=tensor(storage(kind="DoubleStorage"))),
    "storage of 2^60": state(w=tensor(storage(count=2**60))),
    "storage of -1": state(w=tensor(storage(count=-1))),
    "storage that is missing": state(w=tensor(storage("7"))),
    "storage outside": state(w=tensor(storage("../../etc/passwd"))),
    "storage that is the pickle": state(w=tensor(storage("../data.pkl"))),
    "storage of no type": state(w=tensor(storage(kind="float8_e5m2")), v=text("x")),
    "quantised storage": state(w=tensor(storage(kind="QInt8Storage"))),
    "a number for a tensor": state(w=number(1)),
    "a nested dictionary": state(w=b"}" + text("v") + tensor() + b"s"),
    "a list": pickles.START + b"]" + tensor() + b"a" + pickles.STOP,
    "a tensor": pickles.START + tensor() + pickles.STOP,
    "a storage": pickles.START + storage() + pickles.STOP,
    "a name": pickles.START + name("torch", "FloatStorage") + pickles.STOP,
    "a number as a name": pickles.START + b"}" + number(1) + tensor() + b"s" + pickles.STOP,
    "a name twice": pickles.START + b"}" + (text("w") + tensor() + b"s") * 2 + pickles.STOP,
    "half a pair": pickles.START + b"}(" + text("w") + b"u" + pickles.STOP,
}


@pytest.mark.parametrize("title", SHAPES)
def test_tensors_stay_inside_their_storages(title: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        read(tmp_path / "a.bin", archive(SHAPES[title]))


def test_a_sound_program_of_the_assembler(tmp_path: Path) -> None:
    """The programs above fail for what is wrong with them, not for how they are put together."""
    data = struct.pack("<4f", 1, 2, 3, 4)
    turned = state(w=tensor(stride=(1, 2)), v=tensor(shape=(3,), stride=(1,), offset=1))
    loaded = read(tmp_path / "a.bin", archive(turned, {"data/0": data}))
    assert loaded["w"].tolist() == [[1, 3], [2, 4]]
    assert loaded["v"].tolist() == [2, 3, 4]


SOUND = archive(state(w=tensor()))


def edited(data: bytes, signature: bytes, at: int, value: bytes, *, last: bool = False) -> bytes:
    """Overwrites bytes at an offset from a zip record's signature."""
    where = (data.rfind(signature) if last else data.find(signature)) + at
    return data[:where] + value + data[where + len(value) :]


END, ENTRY, LOCAL = b"PK\5\6", b"PK\1\2", b"PK\3\4"
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "one byte": (b"P", "not a zip archive"),
    "not a zip": (b"hello, world", "not a zip archive"),
    "legacy pickle": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "before 1.6"),
    "legacy tar": (b"sys_info".ljust(257, b"\0") + b"ustar\0", "before 1.6"),
    "gzip": (b"\x1f\x8b\x08\0hello", "not a zip archive"),
    "no directory": (SOUND[: SOUND.find(ENTRY)], "not a zip archive"),
    "no members": (archive(b"", {}, "x")[:0] + b"PK\5\6" + bytes(18), "0 members named data.pkl"),
    "compressed": (archive(state(w=tensor()), compression=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "a zip bomb": (
        archive(state(w=tensor()), {"data/0": bytes(2**24)}, compression=zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "bzip2": (archive(state(w=tensor()), compression=zipfile.ZIP_BZIP2), "compressed or encrypted"),
    "encrypted": (edited(SOUND, ENTRY, 8, b"\1\0"), "compressed or encrypted"),
    "sizes that differ": (edited(SOUND, ENTRY, 20, b"\1\0\0\0"), "compressed or encrypted"),
    "member past the end": (edited(SOUND, ENTRY, 20, b"\xff\xff\xff\x7f" * 2), "cut short"),
    "member of 2^32 - 1 bytes": (edited(SOUND, ENTRY, 20, b"\xff" * 8), "cut short"),
    "header elsewhere": (edited(SOUND, ENTRY, 42, b"\7\0\0\0"), "does not begin"),
    "header past the end": (edited(SOUND, ENTRY, 42, b"\xff" * 4), "cut short"),
    "broken header": (edited(SOUND, LOCAL, 0, b"XX"), "not a zip archive"),
    "broken later header": (edited(SOUND, LOCAL, 0, b"PK\0\0", last=True), "does not begin"),
    "name longer than the file": (edited(SOUND, LOCAL, 26, b"\xff\xff", last=True), "cut short"),
    "broken entry": (edited(SOUND, ENTRY, 0, b"PK\0\0", last=True), "directory is corrupt"),
    "entry longer than the directory": (edited(SOUND, ENTRY, 28, b"\xff\xff"), "directory is corrupt"),
    "directory past the end": (edited(SOUND, END, 16, b"\xff" * 4), "cut short"),
    "directory of 4 GiB": (edited(SOUND, END, 12, b"\xff" * 4), "lists 3 members"),
    "directory of 0 bytes": (edited(SOUND, END, 12, b"\0" * 4), "directory is corrupt"),
    "more members than there are": (edited(SOUND, END, 10, b"\xff\xff"), "directory is corrupt"),
    "fewer members than there are": (edited(SOUND, END, 10, b"\2\0"), "are missing"),
    "two pickles": (archive(state(w=tensor()), {"x/data.pkl": b""}), "2 members named data.pkl"),
    "no pickle": (archive(b"", {}).replace(b"data.pkl", b"data.pkx"), "0 members named data.pkl"),
    "pickle at the root": (archive(state()).replace(b"archive/", b"archive_"), "0 members named data.pkl"),
    "big-endian": (archive(state()).replace(b"little", b"bigger"), "big-endian"),
    "zip64 nowhere": (
        SOUND[: SOUND.find(END)] + struct.pack("<4sLQL", b"PK\6\7", 0, 2**63, 1) + SOUND[-22:],
        "cut short",
    ),
    "zip64 elsewhere": (SOUND[: SOUND.find(END)] + struct.pack("<4sLQL", b"PK\6\7", 0, 3, 1) + SOUND[-22:], "no zip64"),
}


@pytest.mark.parametrize("title", ARCHIVES)
def test_archives_are_refused_with_the_reason(title: str, tmp_path: Path) -> None:
    data, reason = ARCHIVES[title]
    with pytest.raises(CheckpointError, match=reason) as caught:
        read(tmp_path / "a.bin", data)
    assert "a.bin" in str(caught.value)


def test_a_member_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            file.writestr("m/data.pkl", state())
    with pytest.raises(CheckpointError, match="two members"):
        torchbin.read(tmp_path / "a.bin")


def test_overlapping_members(tmp_path: Path) -> None:
    """Two entries of the directory for the same bytes: how a small archive is made to look large."""
    data = archive(state(w=tensor()), {"data/0": bytes(16), "data/1": bytes(16)})
    first = data.find(b"archive/data/0") - 30
    with pytest.raises(CheckpointError, match="overlapping"):
        read(tmp_path / "a.bin", edited(data, ENTRY, 42, struct.pack("<L", first), last=True))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for size in range(len(SOUND)):
        with pytest.raises(CheckpointError):
            read(tmp_path / "a.bin", SOUND[:size])


def test_python_pickles_and_whole_models_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.bin")
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "nested.bin")
    torch.save({"a": torch.ones(1)}, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"a": torch.ones(2).to_sparse()}, tmp_path / "sparse.bin")
    torch.save({"a": torch.ones(2, dtype=torch.complex64)}, tmp_path / "complex.bin")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError):
            torchbin.read(path)
    with pytest.raises(UnsupportedError, match="not a dictionary of named tensors"):
        torchbin.read(tmp_path / "nested.bin")


def big_directory(count: int) -> bytes:
    """A directory of `count` entries that all name one member."""
    entry = struct.Struct("<4s6H3L5H2L")
    names = (b"m/%07d" % i for i in range(count))
    entries = b"".join(entry.pack(b"PK\1\2", 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0) + n for n in names)
    local = struct.pack("<4s5H3L2H", b"PK\3\4", *[0] * 10)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0, 0, 0, 0, count, count, len(entries), len(local))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(local) + len(entries), 1)
    return local + entries + end64 + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, 0, 0, 0)


def test_the_largest_archives_stay_within_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(big_directory(zipped.MEMBER_LIMIT))
    assert "0 members named data.pkl" in limits.check(torchbin.read, path).message
    path.write_bytes(big_directory(zipped.MEMBER_LIMIT + 1))
    assert "lists 100001 members" in limits.check(torchbin.read, path).message
    path.write_bytes(archive(pickles.START + text("😀" * (2**22 - 16)) + pickles.STOP))
    print(limits.check(torchbin.read, path))
    weights = {f"model.layers.{i}.weight": torch.zeros(1) for i in range(12_000)}
    torch.save(weights, path)
    print(limits.check(torchbin.read, path, accepted=True))


def fuzz(folder: Path, seed: int) -> None:
    """Damages the pickle's opcodes, one of its arguments, the zip records, or any byte."""
    rng = random.Random(seed)
    program = state(w=tensor(), b=tensor(shape=(3,), stride=(1,), offset=1))
    kind = rng.random()
    if kind < 0.4:
        parts = [bytes([byte]) for byte in program]
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(2, len(parts))
            parts[at] = rng.choice(
                [b"", b"\xff", b"(", b"0", b"1", b"2", b"u", b"s", b"a", b"e", b"R", b"Q", b"b", parts[at] * 2]
            )
        data = archive(b"".join(parts))
    elif kind < 0.7:
        sizes = rng.choices([-1, 0, 1, 2, 3, 4, 5, 2**31 - 1, 2**31, 2**62, 2**63, 2**64], k=6)
        source = storage(
            rng.choice(["0", "1", "", "../data.pkl"]), rng.choice(["FloatStorage", "ByteStorage"]), sizes[0]
        )
        data = archive(state(w=tensor(source, sizes[1], tuple(sizes[2:4]), tuple(sizes[4:6]))))
    elif kind < 0.85:
        signature = rng.choice([END, ENTRY, LOCAL])
        value = rng.choice([b"\xff" * 4, b"\0" * 4, b"\1\0", b"\xff\xff", b"\0\0\0\x80", b"\xff" * 8])
        data = edited(SOUND, signature, rng.randrange(30), value, last=rng.random() < 0.5)
    else:
        data = damage.spoil(archive(program), rng)
    try:
        for value in read(folder / "a.bin", data).values():
            value.float().sum()
    except PaddockError as error:
        assert len(str(error)) < 1000
    assert [path.name for path in folder.iterdir()] == ["a.bin"]


def test_only_refusals_escape(tmp_path: Path) -> None:
    for seed in range(400):
        fuzz(tmp_path, seed)


@pytest.mark.slow
def test_only_refusals_escape_at_length(tmp_path: Path) -> None:
    for seed in range(400, 20_000):
        fuzz(tmp_path, seed)


@given(st.data())
@settings(max_examples=200, derandomize=True, deadline=None)
def test_any_pickle_of_the_known_opcodes_is_read_or_refused(data: st.DataObject) -> None:
    """Programs drawn opcode by opcode: the machine underneath the reader never fails in another way."""
    words = [
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"s",
        b"u",
        b"a",
        b"e",
        b"b",
        b"Q",
        b"R",
        b"N",
        b"\x88",
    ]
    words += [b"q\x00", b"h\x00", b"q\x01", b"h\x01", text("w"), text("storage"), number(2), number(0), number(2**70)]
    words += [name("torch", "FloatStorage"), name("collections", "OrderedDict"), storage(), tensor(), text("_metadata")]
    words += [name("torch._utils", attribute) for attribute in ("_rebuild_tensor_v2", "_rebuild_tensor_v3")]
    drawn = data.draw(st.lists(st.sampled_from(words), max_size=40))
    with contextlib.suppress(PaddockError):
        pickled.tensors(pickles.START + b"".join(drawn) + pickles.STOP, "x")
