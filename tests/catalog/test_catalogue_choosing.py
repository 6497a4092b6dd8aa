"""The score of `paddock catalog which`, part by part; and six questions that the shipped catalogue answers well."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from catalog_toys import COUNT, toys

from paddock.catalog import choosing, running
from paddock.catalog.catalogue import Catalogue, Found, catalogue
from paddock.catalog.choosing import BENCHMARKS, Candidate, Choice, Fit, Question, choose
from paddock.catalog.comparing import weights
from paddock.catalog.languages import NAMES
from paddock.catalog.schema import Model, Score, Task
from paddock.errors import UsageError

GB = 10**9


@pytest.fixture
def known(tmp_path: Path) -> Catalogue:
    return toys(tmp_path)


def everything(found: Found, question: Question) -> Fit | None:
    return Fit("bf16", 1, planned=True)


def by_weights(found: Found, question: Question) -> Fit | None:
    assert found.size is not None
    for rounding, count in weights(found.size).items():
        if count <= question.memory:
            return Fit(rounding, count, planned=False)
    return None


def parts(one: Candidate) -> dict[str, float]:
    return {reason.text: reason.points for reason in one.reasons}


def names(choice: Choice) -> list[str]:
    return [one.found.name for one in choice.candidates]


def test_every_part_of_a_score(known: Catalogue) -> None:
    choice = choose(known, Question("chat", 100 * GB, "zh", commercial=True), by_weights)
    assert names(choice) == ["goat-moe", "goat-3b"]
    assert parts(choice.candidates[0]) == {
        "16.00 B parameters, 4.00 B of them for each token": 3.0,  # as 8 B
        "released 2025-01-20": 10.11,  # 5.05 years
        "made for chat first of all": 2.0,
        "Chinese is one of its main languages": 1.0,
        "weights alone 32.0 GB in 16 bits, its shape is not known here": 0.0,
        "Goat licence: not on Sundays": -0.5,
        "weights after a form is signed": -0.5,
        "Paddock does not run its architecture, or does not know its shape": -2.0,
    }
    assert choice.candidates[0].score == 13.11
    # Ram is for nothing but "base"; Lamb knows no Chinese; nobody knows how large goat-unknown is.
    assert choice.ruled_out == {"not for chat": 2, "not known to read Chinese": 1, "number of parameters not known": 1}


@pytest.mark.parametrize(
    ("codes", "points"),
    [
        (["zh"], 1.0),
        (["en", "zh"], 1.0),
        (["en", "fr", "zh"], 0.0),
        ([*list(NAMES)[:29], "zh"], 0.0),
        ([*list(NAMES)[:30], "zh"], -0.5),
        (["zh", *list(NAMES)[:30]], 1.0),
    ],
    ids=range(6),
)
def test_a_language_counts_by_its_place(known: Catalogue, codes: list[str], points: float) -> None:
    lamb = known.assets["lamb"].model_copy(update={"languages": tuple(codes)})
    changed = Catalogue({**known.assets, "lamb": lamb}, known.sources, known.names)
    (found,) = choose(changed, Question("code", GB, "zh"), everything).candidates
    (plain,) = choose(changed, Question("code", GB), everything).candidates
    assert found.score - plain.score == pytest.approx(points)


def test_memory_rounds_and_then_rules_out(known: Catalogue) -> None:
    def told(memory: int) -> list[tuple[str, str]]:
        choice = choose(known, Question("chat", memory), by_weights)
        return [(one.found.name, one.fit.rounding) for one in choice.candidates if one.model.id == "goat"]

    assert told(32 * GB) == [("goat-moe", "bf16"), ("goat-3b", "bf16")]
    assert told(17 * GB) == [("goat-moe", "8 bits"), ("goat-3b", "bf16")]
    assert told(9 * GB) == [("goat-moe", "4 bits"), ("goat-3b", "bf16")]
    assert told(5 * GB) == [("goat-3b", "8 bits")]
    assert told(GB) == []
    assert choose(known, Question("chat", GB), by_weights).ruled_out["more than 1.0 GB even in 4 bits"] == 2


def test_terms_of_what_a_model_was_made_from_bind_too(known: Catalogue) -> None:
    choice = choose(known, Question("code", GB, commercial=True), everything)
    reason = "licence, or one of what it was made from, does not allow commercial use or does not say"
    assert choice.candidates == () and choice.ruled_out[reason] == 1
    assert names(choose(known, Question("code", GB), everything)) == ["lamb"]


def test_a_context_that_is_asked_for_rules_out(known: Catalogue) -> None:
    choice = choose(known, Question("chat", GB, context=8192), everything)
    assert {one.model.id for one in choice.candidates} == {"goat"}
    assert choice.ruled_out["context shorter than 8,192 tokens, or not known"] == 1


def test_what_is_first_among_several_tasks_counts(known: Catalogue) -> None:
    (chat,) = [one for one in choose(known, Question("chat", GB), everything).candidates if one.model.id == "lamb"]
    (code,) = choose(known, Question("code", GB), everything).candidates
    assert chat.score - code.score == pytest.approx(choosing.FIRST)


def reporting(known: Catalogue, values: dict[str, float], **more: Any) -> Catalogue:
    """The catalogue with what some sizes report of themselves."""
    assets = dict(known.assets)
    for name, value in values.items():
        found = known.find(name)
        model, size = assets[found.asset.id], found.size
        assert isinstance(model, Model) and size is not None
        score = Score(benchmark="MMLU", value=value, source="card", **more)
        sizes = [one.model_copy(update={"scores": (score,)}) if one.name == size.name else one for one in model.sizes]
        assets[model.id] = model.model_copy(update={"sizes": tuple(sizes)})
    return Catalogue(assets, known.sources, known.names)


def test_reports_count_where_three_models_make_them_alike(known: Catalogue) -> None:
    third = known.assets["lamb"].model_copy(update={"id": "ewe", "name": "Ewe"})
    known = Catalogue(
        {**known.assets, "ewe": third}, known.sources, {**known.names, "ewe": Found(third, third.sizes[0])}
    )  # type: ignore[attr-defined]
    values = {"lamb": 40.0, "goat-3b": 60.0, "goat-moe": 70.0, "ewe": 50.0}

    def points(known: Catalogue, task: str = "chat") -> dict[str, float]:
        candidates = choose(known, Question(task, GB), everything).candidates
        return {one.found.name: r.points for one in candidates for r in one.reasons if r.text.startswith("MMLU")}

    assert points(reporting(known, values)) == {"lamb": -0.5, "ewe": -0.17, "goat-3b": 0.17, "goat-moe": 0.5}
    errors = points(reporting(known, values, metric="error, %"))
    assert errors == {"lamb": 0.5, "ewe": 0.17, "goat-3b": -0.17, "goat-moe": -0.5}
    assert points(reporting(known, values), "code") == {}, "MMLU says nothing about code"
    del values["ewe"]
    assert points(reporting(known, values)) == {}, "two models are too few"


def test_ties_are_ordered_by_name(known: Catalogue) -> None:
    twin = known.assets["lamb"].model_copy(update={"id": "awe", "name": "Awe"})
    both = Catalogue({**known.assets, "awe": twin}, known.sources, known.names)
    assert names(choose(both, Question("code", GB), everything)) == ["awe", "lamb"]


def test_models_stand_with_their_other_sizes(known: Catalogue) -> None:
    by_model = choose(known, Question("chat", GB), everything).by_model
    assert [[one.size.name for one in sizes] for sizes in by_model] == [["moe", "3b"], ["tiny"]]


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"task": "chatting"}, "the nearest is 'chat'"), ({"task": "chat", "context": 0}, "--context is 0")],
)
def test_questions_that_cannot_be_meant(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Question(**{"memory": GB, **asked})


def test_every_task_has_its_benchmarks() -> None:
    assert set(BENCHMARKS) == set(get_args(Task))


def test_a_known_architecture_is_planned_and_others_are_weighed(known: Catalogue) -> None:
    tiny = running.fits(known.find("lamb"), Question("chat", GB))
    assert tiny is not None and tiny.planned and tiny.rounding == "bf16"
    assert 2 * COUNT < tiny.bytes < GB
    assert running.fits(known.find("lamb"), Question("chat", 10**6)) is None
    goat = running.fits(known.find("goat-3b"), Question("chat", 4 * GB))
    assert goat == Fit("8 bits", 3_187_500_000, planned=False)
    assert running.fits(known.find("goat-3b"), Question("chat", 3_500_000_000)) == Fit("4 bits", 1_687_500_000, False)
    runs = running.runs_here(100 * GB)
    lamb, goat = _model(known, "lamb"), _model(known, "goat")
    assert runs(lamb, lamb.sizes[0]) and not runs(goat, goat.sizes[0])


def _model(known: Catalogue, name: str) -> Model:
    model = known.assets[name]
    assert isinstance(model, Model)
    return model


# Six questions. What must hold of the answers is what somebody who knows these models would say; it is not a whole
# ranking, so that new entries do not break it.


@pytest.fixture(scope="module")
def answer() -> Any:
    known = catalogue()

    def asked(task: str, memory: float, language: str | None = None, **more: Any) -> list[list[Candidate]]:
        return choose(known, Question(task, int(memory * GB), language, **more), running.fits).by_model[:5]

    return asked


def ids(answers: list[list[Candidate]]) -> list[str]:
    return [sizes[0].found.name for sizes in answers]


def test_chinese_chat_with_16_gb_for_commercial_use(answer: Any) -> None:
    best = answer("chat", 16, "zh", commercial=True)
    assert best[0][0].model.id.startswith(("qwen2.5", "qwen3", "glm"))
    assert 7e9 <= best[0][0].size.parameters <= 15e9
    assert not any(one.model.id in ("chatglm-6b", "belle-llama", "llama-1") for sizes in best for one in sizes)
    assert all("zh" in one.model.languages for sizes in best for one in sizes)


def test_code_completion_with_8_gb(answer: Any) -> None:
    best = answer("code", 8)
    assert ids(best)[0] == "qwen2.5-coder-7b"
    assert all(one.fit.bytes <= 8 * GB for sizes in best for one in sizes)


def test_embeddings_of_english(answer: Any) -> None:
    best = answer("embedding", 8, "en")
    assert ids(best)[0] == "qwen3-embedding-8b"  # of billions of parameters; then those of BERT's shape, which run here
    here = ids(answer("embedding", 8, "en", runnable=True))
    assert {"mxbai-embed-large", "bge-en-large", "gte-large"} <= set(here)
    assert all(sizes[0].model.tasks[0] == "embedding" for sizes in best)


def test_english_chat_on_a_laptop_with_4_gb(answer: Any) -> None:
    best = answer("chat", 4, "en")
    assert all(1e9 <= sizes[0].size.parameters <= 5e9 for sizes in best[:3])
    assert all(sizes[0].model.released >= "2024" for sizes in best[:3])
    assert "llama-3.2-instruct-3b" in ids(answer("chat", 4, "en", runnable=True))[:2]


def test_translation(answer: Any) -> None:
    best = answer("translation", 16)
    assert {"eurollm-9b", "nllb-200-3.3b"} <= set(ids(best[:4]))


def test_reasoning_with_24_gb(answer: Any) -> None:
    best = ids(answer("reasoning", 24))
    assert {"deepseek-r1-distill-qwen-32b", "qwq-32b"} <= set(best[:4])
