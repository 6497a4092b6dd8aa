"""What an operator may choose: names, bounds, and what contradicts itself."""

from __future__ import annotations

import pytest

from paddock.errors import UsageError
from paddock.serve.flags import BY_NAME, FLAGS, merged, misspelt
from paddock.serve.settings import Named, Settings, check_name, is_loopback

GOOD = ["a", "llama-2", "org/model", "Meta-Llama-3.1-8B_Q4", "model:tag", "a/b/c", "7b", "x" * 128]
BAD = [
    "", " ", ".", "..", "/", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", "a/", "a/.b", "-a", "_a", "a b", "a\n",
    "a\0", "a\\b", "ünïcode", "x" * 129, "a%2e", "~", "a/..", "$(x)", "a\x1b[31m", "C:\\x",
]  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_names_that_models_may_have(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_names_are_no_paths(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_this_machine_s_own_addresses(host: str) -> None:
    assert is_loopback(host)
    Settings(host=host).check()


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.4", "example.org", "localhost.example.org", "128.0.0.1"]
)
def test_others_need_a_key(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError, match="no key"):
        Settings(host=host).check()
    for more in ({"api_keys": ("secret-key",)}, {"admin_keys": ("secret-key",)}, {"insecure": True}):
        Settings(host=host, **more).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(models=(Named("a", None), Named("a", None))),
        Settings(models=(Named("a", None),), adapters=(Named("a", "x"),)),
        Settings(models=(Named("a", None),), adapters=(Named("b", "x", "c"),)),
        Settings(models=(Named("../a", None),)),
        Settings(ssl_keyfile=__file__),  # type: ignore[arg-type]
        Settings(metrics_prefix="9 lives"),
        Settings(metrics_prefix='x{a="b"} 1\n'),
    ],
)
def test_contradictions(settings: Settings) -> None:
    with pytest.raises(UsageError):
        settings.check()


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(Settings(api_keys=("secret-1",), admin_keys=("secret-2",)))


def test_a_flag_beats_a_variable_beats_the_default() -> None:
    variables = {"PADDOCK_PORT": "9001", "PADDOCK_STRICT": "yes", "PADDOCK_HOST": ""}
    assert merged({"port": 9002, "host": None, "model": []}, variables) == {"port": 9002, "strict": True}
    assert merged({"port": None}, variables) == {"port": 9001, "strict": True}
    assert merged({}, {}) == {}
    for nothing in (None, [], ()):
        assert merged({"api_key": nothing}, {"PADDOCK_API_KEY": "k"}) == {"api_key": ["k"]}


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("PADDOCK_API_KEY", "one two,with,commas", ["one", "two,with,commas"]),
        ("PADDOCK_MODEL", "a.gguf, folder with blanks", ["a.gguf", "folder with blanks"]),
        ("PADDOCK_DRAIN_SECONDS", "2.5", 2.5),
        ("PADDOCK_WEB", "off", False),
        ("PADDOCK_METRICS", "0", False),
        ("PADDOCK_INSECURE", "TRUE", True),
        ("PADDOCK_QUEUE", "0", 0),
        ("PADDOCK_CHAT_TEMPLATE", "chatml", "chatml"),
    ],
)
def test_what_variables_spell(variable: str, text: str, value: object) -> None:
    assert merged({}, {variable: text}) == {variable.removeprefix("PADDOCK_").lower(): value}


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PADDOCK_PORT", "http"),
        ("PADDOCK_PORT", "65536"),
        ("PADDOCK_PORT", "-1"),
        ("PADDOCK_PORT", "8e3"),
        ("PADDOCK_PARALLEL", "0"),
        ("PADDOCK_PARALLEL", "512"),
        ("PADDOCK_CTX_SIZE", "0"),
        ("PADDOCK_DRAIN_SECONDS", "soon"),
        ("PADDOCK_DRAIN_SECONDS", "nan"),
        ("PADDOCK_DRAIN_SECONDS", "inf"),
        ("PADDOCK_STRICT", "maybe"),
        ("PADDOCK_BODY_BYTES", "1"),
        ("PADDOCK_THREADS", "0"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, text: str) -> None:
    with pytest.raises(UsageError, match=variable):
        merged({}, {variable: text})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PADDOCK_API_KEY_FILE", ""),
        *((f"PADDOCK_{who}_KEY", text) for who in ("API", "ADMIN") for text in ("", " ", "\n")),
    ],
)
def test_a_key_that_went_missing_opens_nothing(variable: str, text: str) -> None:
    with pytest.raises(UsageError, match=variable):
        merged({}, {variable: text})


def test_bounds_hold_for_flags_too() -> None:
    for flag in FLAGS:
        if flag.kind in ("count", "seconds"):
            for value in (flag.low - 1, flag.high + 1):
                with pytest.raises(UsageError, match=flag.option):
                    merged({flag.name: value}, {})
            for value in (flag.low, flag.high):
                merged({flag.name: value}, {})


def test_misspelt_variables() -> None:
    lines = misspelt({"PADDOCK_API_KEYS": "s3cret", "PADDOCK_PROT": "1", "PADDOCK_HOME": "x", "PATH": "y"})
    assert len(lines) == 2 and "PADDOCK_API_KEY?" in lines[0] and "PADDOCK_PORT?" in lines[1]
    assert "s3cret" not in "".join(lines)
    assert misspelt({flag.variable: "x" for flag in FLAGS} | {"PADDOCK_KERNELS": "x"}) == []
    assert BY_NAME["ctx_size"].option == "--ctx-size"
