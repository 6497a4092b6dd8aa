"""Parameters of published sizes, written down apart from the catalogue's files: what a name means must have this many.

The numbers are those of the models' cards, of other libraries' tables and of checkpoints' index files; tied tensors
count once.
"""

from __future__ import annotations

import pytest

from paddock.catalog.catalogue import catalogue
from paddock.catalog.comparing import architecture
from paddock.model.families import describe
from paddock.training.scale import active_parameters, parameters

COUNTS = {
    "gpt-2-small": 124_439_808,
    "gpt-2-medium": 354_823_168,
    "gpt-2-large": 774_030_080,
    "gpt-2-xl": 1_557_611_200,
    "gpt-neox-20b": 20_554_567_680,
    "bert-base-uncased": 109_482_240,
    "bert-large-uncased": 335_141_888,
    "pythia-14m": 14_067_712,
    "pythia-31m": 30_494_720,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
    "bloom-560m": 559_214_592,
    "bloom-1b1": 1_065_314_304,
    "bloom-1b7": 1_722_408_960,
    "bloom-3b": 3_002_557_440,
    "bloom-7b1": 7_069_016_064,
    "bloom-176b": 176_247_271_424,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "mpt-7b": 6_649_286_656,
    "mpt-30b": 29_957_200_896,
    "falcon-rw-1b": 1_311_625_216,
    "falcon-7b": 6_921_720_704,
    "falcon-40b": 41_303_293_952,
    "falcon-180b": 178_557_088_768,
    "moss": 16_717_980_160,
    "chatglm-6b": 6_173_286_400,
    "chatglm2-6b": 6_243_584_000,
    "t5-v1.1-xxl": 11_135_332_352,
    "bloomberggpt": 50_558_868_480,
    "polyglot-ko-5.8b": 5_885_059_072,
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_name_means_this_many_parameters(name: str) -> None:
    size = catalogue().find(name).size
    assert size is not None
    shape = architecture(size)
    assert shape is not None
    assert parameters(shape) == COUNTS[name] == size.parameters


def test_of_mixtral_a_token_passes_a_quarter() -> None:
    size = catalogue().find("Mixtral 8x7B").size
    assert size is not None and size.config is not None
    assert active_parameters(describe(size.config)) == 12_879_925_248 == size.active


@pytest.mark.parametrize(
    ("name", "apart"),
    [("chatglm-6b", 6_707_929_088), ("falcon-180b", 179_522_565_120), ("falcon-40b", 41_835_970_560)],
    ids=["chatglm-6b", "falcon-180b", "falcon-40b"],
)
def test_files_that_hold_a_tied_head_twice_count_more(name: str, apart: int) -> None:
    """What hubs and index files count where a tied head is stored a second time."""
    size = catalogue().find(name).size
    assert size is not None and size.config is not None
    assert parameters(describe({**size.config, "tie_word_embeddings": False})) == apart
