"""Recipes: partial tables keep the stage's defaults, shipped ones carry their values, the registry names them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from searchctl.encoder.models.registry import ENTRIES
from searchctl.training.errors import DataError
from searchctl.training.recipe import SHIPPED, LoraSettings, Masking, Recipe, Schedule, load_recipe, shipped_recipes

PAPER = ("sheared-llama-1.3b", "llama-2-7b-chat", "mistral-7b-instruct", "llama-3-8b-instruct")
FURTHER = (
    "smollm2-135m-cpu-further",
    "smollm2-135m-cpu-further-2",
    "smollm2-135m-cpu-further-3",
    "smollm2-135m-cpu-further-4",
)
DISTILLED = ("smollm2-135m-distilled", "smollm2-135m-distilled-2")
OWN = ("smollm2-135m", "smollm2-135m-cpu", *FURTHER)
ROWS = {
    "wikipedia-title-lead": 20_542,
    "debian-packages": 55_529,
    "medquad": 16_335,
    "wordnet-glosses": 117_659,
    "tldr-commands": 32_136,
    "snli-triples": 5_864,
    "pubmedqa": 1_000,
}
WITH_CLOZE = {**ROWS, "wikipedia-cloze": 78_336}
MINED = ("medquad", "debian-packages", "pubmedqa", "wikipedia-title-lead")
WITH_MINED = {
    **{name: count for name, count in ROWS.items() if name not in MINED},
    "medquad-hard": 16_335,
    "debian-hard": 55_529,
    "pubmedqa-hard": 1_000,
    "wikipedia-title-lead-hard": 20_542,
    "wikipedia-cloze-hard": 6_026,
    "pubmed-cloze-hard": 3_420,
}
# Other wikipedia pairs, and one pair of each text of pubmedqa.
WITH_MINED_AGAIN = {**WITH_MINED, "wikipedia-cloze-hard": 6_026, "pubmed-cloze-hard": 1_211}
BARE = ("snli-triples", "wikipedia-cloze", "pubmed-cloze", "wordnet-glosses")
"""Beginnings of the names of sources that carry no instruction when training goes further."""
ROWS_OF = {"smollm2-135m": ROWS, FURTHER[2]: WITH_MINED, FURTHER[3]: WITH_MINED_AGAIN}


def recipe(folder: Path, text: str) -> Recipe:
    path = folder / "mine.toml"
    path.write_text('source = "a test"\n' + text)
    return load_recipe(path)


def shipped(name: str) -> Recipe:
    return load_recipe(SHIPPED / f"{name}.toml")


def test_a_recipe_without_tables_is_the_defaults(tmp_path: Path) -> None:
    assert recipe(tmp_path, "") == Recipe(name="mine", source="a test")


def test_a_partial_schedule_keeps_the_defaults_of_its_stage(tmp_path: Path) -> None:
    made = recipe(tmp_path, "[supervised.schedule]\nsteps = 500\n[simcse.schedule]\nsteps = 7\n")
    assert made.supervised.schedule == Schedule(steps=500, warmup_steps=300, learning_rate=2e-4)
    assert made.simcse.schedule == Schedule(steps=7, learning_rate=3e-5)
    assert made.mntp.schedule == Schedule(steps=1000, learning_rate=5e-5)


def test_a_partial_lora_keeps_the_other_defaults(tmp_path: Path) -> None:
    made = recipe(tmp_path, "[mntp.lora]\nrank = 4\n")
    assert made.mntp.lora == LoraSettings(rank=4, alpha=32, dropout=0.05)
    assert made.simcse.lora == LoraSettings()


def test_a_warm_up_as_long_as_the_stage_is_refused(subtests: pytest.Subtests) -> None:
    for warmup, steps in [(300, 300), (1, 1), (20, 10)]:
        with (
            subtests.test(warmup=warmup, steps=steps),
            pytest.raises(
                ValueError, match=rf"warmup_steps is {warmup}: expected fewer than schedule.steps \({steps}\)"
            ),
        ):
            Schedule(steps=steps, warmup_steps=warmup)


def test_a_schedule_shorter_than_its_default_warm_up_is_refused_with_the_file(tmp_path: Path) -> None:
    said = r"mine.toml: supervised.schedule.warmup_steps is 300: expected fewer than supervised.schedule.steps \(200\)"
    with pytest.raises(DataError, match=said):
        recipe(tmp_path, "[supervised.schedule]\nsteps = 200\n")


def test_false_says_none_where_a_setting_may_be_left_out(tmp_path: Path) -> None:
    assert recipe(tmp_path, "").supervised.false_negative_margin == 0.1
    assert recipe(tmp_path, "[supervised]\nfalse_negative_margin = false\n").supervised.false_negative_margin is None
    assert recipe(tmp_path, "[supervised]\nfalse_negative_margin = 0.2\n").supervised.false_negative_margin == 0.2


def test_a_wrong_value_is_refused_by_its_full_name(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for text, words in [
        ("[supervised]\nfalse_negative_margin = true\n", "supervised.false_negative_margin is True: expected float"),
        ("[mntp]\nbatch = false\n", "mntp.batch is False: expected int"),
        ("[mntp]\nlora = 3\n", "mntp.lora is 3: expected a table"),
        ("[mntp.lora]\nranks = 3\n", "unknown key mntp.lora.ranks, expected one of rank, alpha, dropout"),
        ("[supervised.sources.a]\nweight = nan\n", "supervised.sources.a.weight is nan: expected a finite number"),
        ("[mntp.schedule]\nclip_norm = inf\n", "mntp.schedule.clip_norm is inf: expected a finite number"),
        ("[simcse.schedule]\nweight_decay = nan\n", "simcse.schedule.weight_decay is nan: expected a finite number"),
        ("[supervised]\nfalse_negative_margin = -inf\n", "false_negative_margin is -inf: expected a finite number"),
        (f"[mntp.schedule]\nclip_norm = 1{400 * '0'}\n", "000: expected a finite number"),
        ("[simcse.schedule]\nsteps = 0\n", "mine.toml: simcse.schedule.steps is 0: expected"),
        ("[distill.lora]\ndropout = 1.5\n", "mine.toml: distill.lora.dropout is 1.5: expected at least 0"),
        ("[mntp]\nchunk = 0\n", "mine.toml: mntp.chunk is 0: expected"),
        ("[supervised.sources.a]\nlicence = 3\n", "supervised.sources.a.licence is 3: expected str"),
        ("[supervised]\nsources = 1\n", "supervised.sources is 1: expected a table"),
        ("[distill]\nloss = 'cosine'\n", "distill.loss is 'cosine': expected one of 'similarity', 'vector'"),
        ("[distill]\nteacher = ''\n", "distill: batch is 128, teacher ['']"),
        ("[distill]\ntemperature = 0\n", "distill.temperature is 0.0: expected a number above 0"),
        ("[dev.sts]\ninstructions = 'a'\n", "unknown key dev.sts.instructions, expected one of instruction"),
    ]:
        with subtests.test(text=text, words=words):
            tmp_path = tmp_path_factory.mktemp("row")
            with pytest.raises(DataError, match=r"mine\.toml: ") as raised:
                recipe(tmp_path, text)
            assert words in str(raised.value)


def test_a_recipe_says_where_its_values_come_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 1\n")
    with pytest.raises(DataError, match="source is missing"):
        load_recipe(path)


def test_a_source_has_weight_instruction_symmetry_and_licence(tmp_path: Path) -> None:
    text = '[supervised.sources.faq]\nweight = 2\ninstruction = "Find it"\nsymmetric = true\nlicence = "MIT"\n'
    source = recipe(tmp_path, text).supervised.sources["faq"]
    assert (source.weight, source.instruction, source.symmetric, source.licence) == (2.0, "Find it", True, "MIT")


def test_development_pairs_have_an_instruction_by_their_name(tmp_path: Path) -> None:
    made = recipe(tmp_path, '[dev.stsb-dev]\ninstruction = "Alike"\n')
    assert {name: said.instruction for name, said in made.dev.items()} == {"stsb-dev": "Alike"}


def test_the_recipe_of_every_model_is_shipped_and_loads(subtests: pytest.Subtests) -> None:
    for entry in ENTRIES:
        with subtests.test(entry=entry):
            name = entry.recipe  # type: ignore[attr-defined]
            if entry.name == "hashing":  # type: ignore[attr-defined]
                assert name == "none"  # no language model, nothing to train
            else:
                assert name in shipped_recipes()
                assert shipped(name).name == name


def test_bases_of_the_paper_have_their_own_recipe() -> None:
    assert {entry.name.removesuffix("-v0.2"): entry.recipe for entry in ENTRIES if "llama" in entry.name} == {
        "sheared-llama-1.3b": "sheared-llama-1.3b",
        "llama-2-7b-chat": "llama-2-7b-chat",
        "llama-3-8b-instruct": "llama-3-8b-instruct",
    }
    assert [entry.recipe for entry in ENTRIES if entry.name.startswith("mistral")] == ["mistral-7b-instruct"]


def test_recipes_of_the_paper_carry_its_values(subtests: pytest.Subtests) -> None:
    for name in PAPER:
        with subtests.test(name=name):
            made = shipped(name)
            mistral, sheared = name.startswith("mistral"), name.startswith("sheared")
            for stage in (made.mntp, made.simcse, made.supervised):
                assert stage.lora == LoraSettings(rank=16, alpha=32, dropout=0.05)
                assert (stage.schedule.steps, stage.schedule.weight_decay, stage.schedule.clip_norm) == (1000, 0.0, 1.0)
            mntp, simcse, supervised = made.mntp, made.simcse, made.supervised
            assert (mntp.batch, mntp.length, mntp.mask_token, mntp.anneal_steps, mntp.merge_share) == (
                32,
                512,
                "_",
                0,
                1.0,
            )
            assert (mntp.mask_probability, mntp.masking) == ((0.8, Masking.ALL) if mistral else (0.2, Masking.BERT))
            assert (mntp.schedule.learning_rate, mntp.schedule.warmup_steps) == (5e-5, 0)
            assert (simcse.batch, simcse.length) == (32 if sheared else 128, 128)
            assert (simcse.temperature, simcse.attention_dropout) == (0.05, 0.3)
            assert (simcse.schedule.learning_rate, simcse.schedule.warmup_steps) == (3e-5, 0)
            # Three epochs, Trainer's default, of Wiki1M's million sentences, which are read as they stand.
            assert simcse.schedule.decay_steps == 3 * math.ceil(1_000_000 / simcse.batch)
            assert not simcse.sentences
            assert (mntp.schedule.decay_steps, supervised.schedule.decay_steps) == (21_600, 8_800)
            assert (supervised.batch, supervised.length, supervised.hard_negatives) == (512, 512, 1)
            assert (supervised.temperature, supervised.false_negative_margin, supervised.dimensions) == (0.02, None, ())
            assert (supervised.schedule.learning_rate, supervised.schedule.warmup_steps) == (2e-4, 300)
            sources = supervised.sources
            assert len(sources) == 16
            assert all(source.weight == 1 and source.instruction for source in sources.values())
            both = {"allnli_split2", "quora_duplicates_split1", "quora_duplicates_split2"}
            assert {source for source, settings in sources.items() if settings.symmetric} == both
            assert made.seed == 42


def test_own_recipes_tell_every_source_apart_and_let_none_dominate(subtests: pytest.Subtests) -> None:
    for name in OWN:
        with subtests.test(name=name):
            sources = shipped(name).supervised.sources
            rows = ROWS_OF.get(name, WITH_CLOZE)
            texts = set() if name in FURTHER else {"wikipedia-paragraphs"}
            assert sources.keys() == {*rows, *texts}
            assert all(source.licence for source in sources.values())
            without = {source for source in rows if source.startswith(BARE)} if name in FURTHER else set()
            assert {source for source in rows if not sources[source].instruction} == without
            assert [source for source, settings in sources.items() if settings.symmetric] == ["snli-triples"]
            products = [count * sources[source].weight for source, count in rows.items()]
            assert max(products) < {FURTHER[0]: 0.37, FURTHER[1]: 0.49}.get(name, 0.3) * sum(products)


def test_the_recipe_that_goes_on_takes_the_adapter_of_the_one_before_further(subtests: pytest.Subtests) -> None:
    for name, after in [*zip(FURTHER, ("smollm2-135m-cpu", *FURTHER[:3]), strict=True)]:
        with subtests.test(name=name, after=after):
            before, further = shipped(after), shipped(name)
            assert further.supervised.start == "previous"
            assert further.supervised.lora == before.supervised.lora
            # Another seed, or the first batches were those of the run before.
            assert further.seed != before.seed


def test_the_distilled_recipes_copy_vectors_of_a_shallow_model() -> None:
    first, second = (shipped(name) for name in DISTILLED)
    assert (first.model.layers, first.distill.projection, first.distill.loss) == (tuple(range(8)), 384, "vector")
    # The second finds the layers and the projection in the model that it goes on with.
    assert (second.model.layers, second.distill.projection, second.distill.start) == (None, None, "previous")
    assert second.distill.lora == first.distill.lora and second.seed != first.seed
    for made in (first, second):
        assert {"wikipedia-paragraphs", *ROWS} <= made.supervised.sources.keys()
        assert all(source.licence for source in made.supervised.sources.values())


def test_the_recipe_for_a_cpu_is_two_hours_of_tokens() -> None:
    made = shipped("smollm2-135m-cpu")
    mntp = made.mntp.schedule.steps * made.mntp.batch * made.mntp.length
    # Measured in its run: 29 tokens a sentence, 89 a pair with its instructions and negatives.
    simcse = made.simcse.schedule.steps * made.simcse.batch * 29 * 2
    supervised = made.supervised.schedule.steps * made.supervised.batch * 89
    assert (mntp, simcse, supervised) == (122_880, 46_400, 256_320)
    assert not (made.simcse.cached or made.supervised.cached)
